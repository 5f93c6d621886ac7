"""The terminal app: screens over the view models of `viz`, and one registry of everything that can be done in them."""
