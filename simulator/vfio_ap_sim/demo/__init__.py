"""The demo: the product from nothing on a machine without a mainframe, shown and then proven."""
