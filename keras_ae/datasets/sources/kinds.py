"""Kinds of files: which are opened to look for an image, and how the others are counted."""

import re
from collections.abc import Mapping

from keras_ae.contract import IMAGE_SUFFIXES

NO_SUFFIX = "without suffix"
EXCLUDED = "excluded"
BEHIND_LINKS = "behind links"
NO_SPLIT_FOLDER = "in no split folder"

ARCHIVE_SUFFIXES = (
    ".zip", ".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz",
)  # fmt: skip
"""Suffixes of the archives that are read; the first is that of a zip."""
HEAD_BYTES = 512
"""Number of first bytes by which a file is known to be an image."""
MAX_KINDS = 8
"""Maximum number of kinds in a message."""

_OTHER = (
    # Text, tables and settings
    "bib cfg conf csv html htm ini json jsonl log md ndjson rst sql srt svg tex text toml tsv txt "
    "vtt xml yaml yml "
    # Documents
    "ai doc docx eps epub key numbers odp ods odt pages pdf ppt pptx ps rtf xls xlsm xlsx "
    # Programs
    "bat c class cpp cs css dll dylib exe go h hpp ipynb jar java js lua m msi pl ps1 py pyc pyd r "
    "rb rs sh so ts whl "
    # Archives and disk images
    "7z bz2 dmg gz iso lz4 rar tar tbz2 tgz txz xz zip zst "
    # Sound and video
    "3gp aac avi flac flv m2ts m4a m4v mid mkv mov mp3 mp4 mpeg mpg mts ogg ogv opus wav webm wma "
    "wmv "
    # Models, arrays and databases
    "arrow ckpt db feather gguf h5 hdf5 joblib keras lmdb mat mdb npy npz onnx parquet pb pkl "
    "pickle pt pth safetensors sqlite sqlite3 tfrecord tfrecords tflite "
    # Raw files of cameras: a TIFF decoder would take the thumbnail in them for the image
    "3fr arw cr2 cr3 dcr dng erf iiq kdc mos mrw nef nrw orf pef raf rw2 sr2 srw x3f"
)
OTHER_SUFFIXES = frozenset(f".{suffix}" for suffix in _OTHER.split())
"""Suffixes in lower case of files that are counted without being opened."""

_SUFFIX = re.compile(r"\.(?=[a-z0-9_~+-]*[a-z])[a-z0-9_~+-]{1,10}")
_LITTER = re.compile(
    r"(?:^|/)(?:\.(?!\.?(?:/|$))|__MACOSX(?:/|$)|(?:thumbs\.db|ehthumbs\.db|desktop\.ini)$)",
    re.IGNORECASE,
)


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is hidden, or is the litter of an operating system."""
    return _LITTER.search(name) is not None


def has_image_suffix(name: str) -> bool:
    """Whether a name has the suffix of an image, which its content may contradict."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_other(name: str) -> bool:
    """Whether a name has a suffix for which the file is counted without being opened."""
    return kind_of(name) in OTHER_SUFFIXES


def kind_of(name: str) -> str:
    """The kind by which a file is counted: its suffix in lower case, or `NO_SUFFIX`.

    >>> kind_of("videos/a.MOV"), kind_of("README"), kind_of("slice.0001")
    ('.mov', 'without suffix', 'without suffix')
    """
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    suffix = f".{suffix.lower()}"
    return suffix if stem and dot and _SUFFIX.fullmatch(suffix) else NO_SUFFIX


def format_counts(counts: Mapping[str, int]) -> str:
    """Numbers of files by kind on one line, the largest first.

    >>> format_counts({".mov": 3, ".xyz": 12})
    '12 .xyz, 3 .mov'
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {kind}" for kind, count in ordered[:MAX_KINDS]]
    if rest := ordered[MAX_KINDS:]:
        shown.append(f"{sum(count for _, count in rest):,} of {len(rest)} other kinds")
    return ", ".join(shown)
