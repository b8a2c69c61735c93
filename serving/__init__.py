"""Either side of the wire; of keras_ae it knows the contract and the errors only."""
