"""The image data sets: where their files lie, where they can be had, and the SHA-256 that says they are the right ones."""

from dataclasses import dataclass

MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
CIFAR = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True)
class File:
    """One file below the data root. content: SHA-256 of what it holds, unpacked and without a header, so that however it is
    packed does not matter; packed: of the file as it is distributed, where only that is known. A file without a url cannot be
    downloaded.
    """

    path: str
    content: str = ""
    packed: str = ""
    url: str = ""


@dataclass(frozen=True)
class Source:
    """A data set. shape: channels, height and width of its images; train, test: files of each part, of one `layout`: "idx",
    images then labels, or "cifar", batches of rows of a label and its pixels, in a folder or in one .tar.gz archive.
    """

    layout: str
    shape: tuple[int, int, int]
    rows: tuple[int, int]
    train: tuple[File, ...]
    test: tuple[File, ...]
    batches: tuple[str, ...] = ()  # members of the archive: of the training part, and last that of the test part

    @property
    def files(self) -> tuple[File, ...]:
        """Each once."""
        return tuple(dict.fromkeys((*self.train, *self.test)))


def _idx(folder: str, address: str, part: str, kind: str, content: str = "", packed: str = "") -> File:
    name = f"{part}-{kind}-ubyte"
    return File(f"{folder}/raw/{name}", content, packed, f"{address}/{name}.gz")


# No download of these was ever tried from where the project was written: it had no network. The digests of mnist and of the
# stand-in were computed from the data themselves; those of fashion_mnist and cifar10 are the ones that TensorFlow Datasets
# publishes for the archives.
_ARCHIVE = File(
    "cifar-10-binary.tar.gz",
    packed="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    url=f"{CIFAR}/cifar-10-binary.tar.gz",
)
SOURCES = {
    "mnist": Source(
        "idx", (1, 28, 28), (60_000, 10_000),
        (_idx("MNIST", MNIST, "train", "images-idx3", "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
         _idx("MNIST", MNIST, "train", "labels-idx1", "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13")),
        (_idx("MNIST", MNIST, "t10k", "images-idx3", "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
         _idx("MNIST", MNIST, "t10k", "labels-idx1", "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5")),
    ),
    "fashion_mnist": Source(
        "idx", (1, 28, 28), (60_000, 10_000),
        (_idx("FashionMNIST", FASHION, "train", "images-idx3",
              packed="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
         _idx("FashionMNIST", FASHION, "train", "labels-idx1",
              packed="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845")),
        (_idx("FashionMNIST", FASHION, "t10k", "images-idx3",
              packed="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
         _idx("FashionMNIST", FASHION, "t10k", "labels-idx1",
              packed="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5")),
    ),
    "cifar10": Source(
        "cifar", (3, 32, 32), (50_000, 10_000), (_ARCHIVE,), (_ARCHIVE,),
        tuple(f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")),
    ),
    # 12,000 images in CIFAR-10's layout whose pixels went through JPEG: not CIFAR-10, and never called so
    "cifar10_standin": Source(
        "cifar", (3, 32, 32), (10_000, 2_000),
        (File("cifar-10-batches-bin/data_batch_1.bin", "c6e66a89d3dafd2c03719fac8a8c9cbf1e6780aacd080b18316fdc6994534c9d"),),
        (File("cifar-10-batches-bin/test_batch.bin", "ff6e7e547300658b75789496a0bc869e89cfb32b0a9107e444adcc2db36a68f1"),),
    ),
}  # fmt: skip
