"""The frame and code datasets: schema, writer, reader, splits, pairs. Knows neither torch nor ray."""
