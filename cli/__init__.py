"""The ``refine`` command: parses, calls the library, prints."""
