"""A client and a server of TensorFlow Serving's protocol."""
