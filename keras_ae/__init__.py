"""Convolutional autoencoders for images: data, training, comparison and export."""
