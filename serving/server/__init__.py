"""A stand-in for `tensorflow_model_server` on machines that have neither it nor Docker."""
