"""The commands: options in, a question asked, a page shown. Nothing heavy is imported before one runs."""
