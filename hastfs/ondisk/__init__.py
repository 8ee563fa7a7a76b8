"""What is on a component besides the data, as plain values: layout, metadata, activemap."""
