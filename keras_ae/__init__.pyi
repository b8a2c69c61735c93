from keras_ae.datasets.sources.open import open_source as open_source
from keras_ae.datasets.tiles import Tiles as Tiles
from keras_ae.models.autoencoder import ConvAutoencoder as ConvAutoencoder
from keras_ae.models.autoencoder import load_model as load_model
from keras_ae.saved_model.export import export as export
from keras_ae.training.ladder import Ladder as Ladder

__version__: str
__all__: list[str]
