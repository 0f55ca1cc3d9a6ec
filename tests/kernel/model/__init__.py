"""The model beside a booted kernel: the same operations, then everything that can be seen must be the same."""
