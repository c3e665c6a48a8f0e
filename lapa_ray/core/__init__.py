"""What every room shares: config, artefacts, metric log, seeds, pictures. Knows neither torch nor ray."""
