"""Networks that people bring: built from text, with weights from files or trained by a rule, and data for them."""
