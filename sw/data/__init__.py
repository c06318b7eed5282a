"""Pictures and data sets, each in its own folders and file formats."""
