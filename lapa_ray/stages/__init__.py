"""One file a command: `run(config)` reads artefact directories and writes exactly one."""
