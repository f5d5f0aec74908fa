"""Attribution of differences between arms: a reference, methods, and controls that hold something fixed."""
