"""Train the shipped models and convert them to TensorFlow Lite.

Each model is a small image classifier trained on scikit-learn's bundled digits, then written
twice from the same weights: as float32 and as full-integer int8. The folder of a model also
gets a ``provenance.toml`` saying how it was made and how well both files do on held-out images.

Usage (needs tensorflow, keras and scikit-learn, which qinterp itself does not; the versions
used are in the provenance)::

    python tools/make_models.py                     # every model
    python tools/make_models.py --only digits_cnn   # one of them

Two runs on one machine write the same bytes, whatever models were made before in the run.
Another processor or another version may sum in another order: the shipped files are the record.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# TensorFlow reads these once, at import. oneDNN picks kernels by CPU and would make the trained
# weights depend on the machine more than they must.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import sklearn
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tensorflow.lite.python import schema_py_generated as schema

SEED = 20
SIDE = 16
CLASSES = 10
HELD_OUT = 360
CALIBRATION = 200
BATCH = 64
SAMPLES = "digits_samples.npz"
ALLOWED = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "CONCATENATION", "SOFTMAX"),
    *("AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD", "RESHAPE", "QUANTIZE", "DEQUANTIZE"),
}

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Tensor: TypeAlias = keras.KerasTensor


# The data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Network inputs (N, 16, 16, 1) and their labels, split once for all models."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


def upsample(pixels: NDArray[np.float64]) -> Images:
    """Turn 8x8 images of integers 0..16 into 16x16 network inputs in [0, 1].

    The doubling is bilinear with half-pixel centres (edges repeated): every output is
    3/4 of the nearer and 1/4 of the farther neighbour along each axis. The result is a multiple
    of 1/256, so it is exact in float32.
    """

    def double(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        before = np.concatenate([values.take([0], axis), values], axis).take(range(8), axis)
        after = np.concatenate([values, values.take([-1], axis)], axis).take(range(1, 9), axis)
        pair = np.stack([3 * values + before, 3 * values + after], axis + 1) / 4
        shape = list(values.shape)
        shape[axis] *= 2
        return pair.reshape(shape)

    return (double(double(pixels, 1), 2) / 16).astype(np.float32)[..., np.newaxis]


def load() -> Digits:
    """Load the digits and make the one stratified split that every model shares."""
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        upsample(digits.images),
        digits.target.astype(np.int64),
        test_size=HELD_OUT,
        stratify=digits.target,
        random_state=SEED,
    )
    return Digits(train_images, train_labels, test_images, test_labels)


def shifted(images: Images) -> Images:
    """Return the images followed by copies moved one pixel up, down, left and right."""
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return np.concatenate([padded[:, y : y + SIDE, x : x + SIDE] for y, x in corners])


# The networks --------------------------------------------------------------------------------


def conv(
    x: Tensor,
    filters: int,
    size: int,
    name: str,
    *,
    strides: int = 1,
    padding: str = "same",
    activation: str | None = "relu",
) -> Tensor:
    """Convolution, batch normalization (folded on conversion) and an optional activation."""
    x = layers.Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
    return normalize(x, name, activation)


def depthwise(x: Tensor, name: str, *, strides: int = 1) -> Tensor:
    """Depthwise 3x3 with relu6; a strided one gets its padding from an explicit PAD.

    The padding is the same on both sides, as PyTorch has it. Keras's own (0, 1) equals SAME,
    and the converter would fuse it away.
    """
    padding = "same"
    if strides > 1:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(3, strides, padding, use_bias=False, name=name)(x)
    return normalize(x, name, "relu6")


def normalize(x: Tensor, name: str, activation: str | None) -> Tensor:
    """Batch normalization with a momentum fit for short training, then the activation."""
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x


def classify(x: Tensor) -> Tensor:
    """Fully connected layer to the classes, then softmax."""
    x = layers.Dense(CLASSES, name="logits")(x)
    return layers.Softmax(name="probabilities")(x)


def digits_cnn(x: Tensor) -> Tensor:
    """Plain convolutional net: two convolutions, max and average pooling, two dense layers."""
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(2, name="max_pool")(x)
    x = layers.Conv2D(16, 3, padding="valid", activation="relu", name="conv2")(x)
    x = layers.AveragePooling2D(2, name="average_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(32, activation="relu", name="hidden")(x)
    return classify(x)


def digits_resnet(x: Tensor) -> Tensor:
    """Basic-block ResNet in the shape of MLPerf Tiny's; one of its four adds has no relu."""

    def block(x: Tensor, filters: int, name: str, *, strides: int = 1, relu: bool = True) -> Tensor:
        shortcut = x
        if strides > 1:
            shortcut = conv(x, filters, 1, f"{name}_shortcut", strides=strides, activation=None)
        x = conv(x, filters, 3, f"{name}_conv1", strides=strides)
        x = conv(x, filters, 3, f"{name}_conv2", activation=None)
        x = layers.Add(name=f"{name}_add")([x, shortcut])
        return layers.Activation("relu", name=f"{name}_relu")(x) if relu else x

    x = conv(x, 16, 3, "stem1")
    x = conv(x, 16, 3, "stem2")
    x = block(x, 16, "block1")
    x = block(x, 24, "block2", strides=2)
    x = block(x, 32, "block3", strides=2, relu=False)
    x = block(x, 32, "block4")
    x = layers.AveragePooling2D(SIDE // 4, name="average_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    return classify(x)


def digits_mobilenet(x: Tensor) -> Tensor:
    """Depthwise separable net with relu6; strided depthwise convolutions follow a PAD."""
    x = conv(x, 16, 3, "stem", activation="relu6")
    for number, (filters, strides) in enumerate([(24, 1), (32, 2), (48, 1), (64, 2)], 1):
        x = depthwise(x, f"depthwise{number}", strides=strides)
        x = conv(x, filters, 1, f"pointwise{number}", activation="relu6")
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return classify(x)


def glow_small(x: Tensor) -> Tensor:
    """Small net after Glow's quantization report: parallel paths joined by concatenation."""
    x = conv(x, 8, 3, "conv1")
    x = layers.MaxPooling2D(2, name="max_pool")(x)
    branches = [
        conv(x, 8, 1, "branch1"),
        conv(x, 8, 3, "branch3"),
        conv(x, 8, 5, "branch5"),
        layers.MaxPooling2D(3, 1, "same", name="branch_pool")(x),
    ]
    x = layers.Concatenate(name="concat_conv")(branches)
    x = conv(x, 24, 3, "conv2", strides=2)
    x = layers.AveragePooling2D(2, name="average_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    paths = [
        layers.Dense(24, activation="relu", name="path_relu")(x),
        layers.Dense(8, name="path_linear")(x),
    ]
    x = layers.Concatenate(name="concat_dense")(paths)
    return classify(x)


def glow_resnet(x: Tensor) -> Tensor:
    """Bottleneck net in the shape of ResNet-50: stem, max pool, three stages of two blocks."""

    def bottleneck(x: Tensor, width: int, name: str, strides: int) -> Tensor:
        shortcut = x
        if x.shape[-1] != 4 * width:
            shortcut = conv(x, 4 * width, 1, f"{name}_shortcut", strides=strides, activation=None)
        x = conv(x, width, 1, f"{name}_reduce")
        x = conv(x, width, 3, f"{name}_conv", strides=strides)
        x = conv(x, 4 * width, 1, f"{name}_expand", activation=None)
        x = layers.Add(name=f"{name}_add")([x, shortcut])
        return layers.Activation("relu", name=f"{name}_relu")(x)

    x = conv(x, 16, 5, "stem")
    x = layers.MaxPooling2D(3, 2, "same", name="max_pool")(x)
    for stage, (width, strides) in enumerate([(8, 1), (12, 2), (20, 2)], 1):
        x = bottleneck(x, width, f"stage{stage}a", strides)
        x = bottleneck(x, width, f"stage{stage}b", 1)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return classify(x)


@dataclass(frozen=True)
class Recipe:
    """How to make one model; ``needs`` lists operators (with fused activation) it is for."""

    build: Callable[[Tensor], Tensor]
    epochs: int
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's name is its function's."""
        return self.build.__name__


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(digits_cnn, 30, ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE")),
        Recipe(digits_resnet, 15, ("ADD", "ADD+RELU", "AVERAGE_POOL_2D")),
        Recipe(digits_mobilenet, 20, ("PAD", "DEPTHWISE_CONV_2D+RELU6", "MEAN")),
        Recipe(glow_small, 20, ("CONCATENATION", "MAX_POOL_2D", "AVERAGE_POOL_2D")),
        Recipe(glow_resnet, 15, ("MAX_POOL_2D", "ADD+RELU", "MEAN")),
    )
}


# Training, conversion, measurement -----------------------------------------------------------


def train(recipe: Recipe, digits: Digits) -> keras.Model:
    """Train one network from the seed; the result does not depend on models made before."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED)
    image = keras.Input((SIDE, SIDE, 1), name="image")
    model = keras.Model(image, recipe.build(image), name=recipe.name)

    images = shifted(digits.train_images)
    labels = np.tile(keras.utils.to_categorical(digits.train_labels, CLASSES), (5, 1))
    steps = recipe.epochs * -(-len(images) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        # Smoothed labels keep the probabilities away from 0 and 1, where an int8 output would
        # saturate and say nothing about the layers before it.
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    )
    model.fit(images, labels, BATCH, recipe.epochs, verbose=0)
    return model


def convert(model: keras.Model, calibration: Images | None) -> bytes:
    """Convert with batch 1: to int8 with int8 input and output, or to float32 without data."""
    graph = tf.compat.v1.wrap_function(
        lambda image: tf.identity(model(image, training=False), name="probabilities"),
        [tf.TensorSpec((1, SIDE, SIDE, 1), tf.float32, name="image")],
    )
    # Pruned to these two tensors the graph keeps their names, and without a trackable object
    # the converter takes the weights as constants (Keras 3 variables would not be found).
    function = graph.prune("image:0", "probabilities:0")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if calibration is not None:

        def representative_dataset() -> Iterator[list[Images]]:
            for image in calibration:
                yield [image[np.newaxis]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative_dataset
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def accuracy(content: bytes, images: Images, labels: Labels) -> float:
    """Run a .tflite over the images with TFLite's reference kernels; return the share right."""
    interpreter = tf.lite.Interpreter(
        model_content=content,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    scale, zero_point = source["quantization"]
    if scale:
        images = np.clip(np.rint(images / np.float32(scale)) + zero_point, -128, 127)
    right = 0
    for image, label in zip(images.astype(source["dtype"]), labels, strict=True):
        interpreter.set_tensor(source["index"], image[np.newaxis])
        interpreter.invoke()
        right += int(interpreter.get_tensor(result["index"]).argmax() == label)
    return right / len(labels)


def operators(content: bytes) -> list[str]:
    """Name the operators of a .tflite in order, a fused activation after a plus sign."""

    def invert(enum: type) -> dict[int, str]:
        return {code: name for name, code in vars(enum).items() if not name.startswith("_")}

    builtin = invert(schema.BuiltinOperator)
    fused = invert(schema.ActivationFunctionType)
    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    names = []
    for op in graph.operators:
        name = builtin[model.operatorCodes[op.opcodeIndex].builtinCode]
        activation = getattr(op.builtinOptions, "fusedActivationFunction", 0)
        names.append(f"{name}+{fused[activation]}" if activation else name)
    return names


def check_operators(recipe: Recipe, names: list[str]) -> None:
    """Refuse a conversion that holds an unexpected operator or lost an intended one."""
    unexpected = {name.partition("+")[0] for name in names} - ALLOWED
    missing = set(recipe.needs) - set(names) - {name.partition("+")[0] for name in names}
    if unexpected or missing:
        raise SystemExit(
            f"{recipe.name}: wanted only {sorted(ALLOWED)} and at least {recipe.needs}; "
            f"found {sorted(set(names))}. Did the converter fuse or expand differently?"
        )


# Files ---------------------------------------------------------------------------------------


def provenance(
    recipe: Recipe, files: dict[str, bytes], scores: dict[str, float], names: list[str]
) -> str:
    """Write the provenance record as TOML."""
    counts = Counter(name.partition("+")[0] for name in names)
    fused = Counter(name for name in names if "+" in name)
    description = (recipe.build.__doc__ or "").strip()
    lines = [
        f'name = "{recipe.name}"',
        f'description = "{description}"',
        'script = "tools/make_models.py"',
        f"seed = {SEED}",
        f"epochs = {recipe.epochs}",
        f'samples = "{SAMPLES}"  # beside this folder; shared by all models',
        "",
        "# Measured on the held-out images with TensorFlow Lite's reference kernels.",
        f"accuracy = {{ float = {scores['float']:.4f}, int8 = {scores['int8']:.4f} }}",
        f"images = {HELD_OUT}",
        "",
        "[input]",
        'name = "image"',
        f"shape = [1, {SIDE}, {SIDE}, 1]",
        'preprocessing = """',
        "x = upsample2(pixels) / 16, in [0, 1]: pixels are 8x8 integers 0..16; upsample2 is",
        "bilinear with half-pixel centres and repeated edges (3/4 nearer + 1/4 farther neighbour",
        "along each axis), so x is an exact multiple of 1/256. The int8 model takes",
        'clip(rint(x / scale) + zero_point, -128, 127).\n"""',
        "",
        "[data]",
        'source = "scikit-learn load_digits: the 1797 test images of UCI optdigits, 8x8"',
        'licence = "CC BY 4.0 (UCI Machine Learning Repository); scikit-learn is BSD-3-Clause"',
        'citation = """',
        "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine",
        'Learning Repository, 1998, doi:10.24432/C50P49.\n"""',
        f'split = "train_test_split(test_size={HELD_OUT}, stratify=labels, random_state={SEED})"',
        f"train = {1797 - HELD_OUT}",
        f"test = {HELD_OUT}",
        f"calibration = {CALIBRATION}  # the first of the training images, unshifted",
        'augmentation = "each training image also moved one pixel up, down, left and right"',
        "",
        "[versions]",
        f'python = "{platform.python_version()}"',
        f'tensorflow = "{tf.__version__}"',
        f'keras = "{keras.__version__}"',
        f'scikit-learn = "{sklearn.__version__}"',
        f'numpy = "{np.__version__}"',
        "",
        "# Of the int8 model, and which of them carry a fused activation.",
        "[operators]",
        *(f"{name} = {count}" for name, count in sorted(counts.items())),
        "",
        "[operators_fused]",
        *(f'"{name}" = {count}' for name, count in sorted(fused.items())),
    ]
    for filename, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        lines += ["", f'[files."{filename}"]', f"bytes = {len(content)}", f'sha256 = "{digest}"']
    return "\n".join(lines) + "\n"


def make(recipe: Recipe, digits: Digits, out: Path) -> None:
    """Train, convert, measure and write one model."""
    model = train(recipe, digits)
    contents = {
        "int8": convert(model, digits.train_images[:CALIBRATION]),
        "float": convert(model, None),
    }
    names = operators(contents["int8"])
    check_operators(recipe, names)
    scores = {
        kind: accuracy(content, digits.test_images, digits.test_labels)
        for kind, content in contents.items()
    }
    files = {
        f"{recipe.name}.tflite": contents["int8"],
        f"{recipe.name}_float.tflite": contents["float"],
    }
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    for filename, content in files.items():
        (folder / filename).write_bytes(content)
    (folder / "provenance.toml").write_text(provenance(recipe, files, scores, names))
    print(
        f"{recipe.name}: int8 {scores['int8']:.4f} in {len(contents['int8'])} bytes, "
        f"float {scores['float']:.4f} in {len(contents['float'])} bytes"
    )


def main() -> None:
    """Make the models asked for, and the held-out samples they share."""
    parser = argparse.ArgumentParser(description="Train and convert the shipped models.")
    parser.add_argument("--only", choices=RECIPES, help="make this model alone")
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder to write to")
    arguments = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()

    digits = load()
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.out / SAMPLES, images=digits.test_images, labels=digits.test_labels
    )
    for name in [arguments.only] if arguments.only else RECIPES:
        make(RECIPES[name], digits, arguments.out)


if __name__ == "__main__":
    main()
