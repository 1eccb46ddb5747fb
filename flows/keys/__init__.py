"""The keys of the stages: their types, defaults and help, and the values given for them."""
