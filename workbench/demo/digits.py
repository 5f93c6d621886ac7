"""Learn to read handwritten digits, in the manner of TensorFlow 1.

A graph is built first: placeholders, two layers, a loss, an optimizer.  Then a session runs parts of it: the training
operation some hundred times, and now and then the part that counts how many digits it has never seen it reads right.

The network is spread over two devices: its hidden layer is on the first, its output layer on the second.  What one layer makes
and the other reads is sent from device to device, forward and, as gradients, backward.

    workbench demo                          record it and watch
    workbench step workbench/demo/digits.py     stop at the first run and go node by node
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import engine as tf
import tracing

BATCH = 64  # digits a training step
HIDDEN = 96  # units of the hidden layer
HELD_OUT = 360  # digits that are never trained on
EVALUATE_AT_ONCE = 60  # digits of those that are read in one turn of the evaluation's loop
REPORT_EVERY = 50  # steps
SEED = 7
DEVICES = "CPU:2"  # how many of each kind


def load_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, held-out images and labels; images are float32 [n, 64] between 0 and 1."""
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        images, labels = file["images"].astype(np.float32) / 16.0, file["labels"].astype(np.int32)
    order = np.random.default_rng(SEED).permutation(len(labels))
    train, test = order[HELD_OUT:], order[:HELD_OUT]
    return images[train], labels[train], images[test], labels[test]


def parse_devices(text: str) -> dict[str, int]:
    """``CPU:2`` or ``CPU:1,GPU:1`` as a number for each kind; there is always a CPU.  Raises ValueError for anything else."""
    found = {"CPU": 1}
    for part in text.split(","):
        kind, _, number = part.strip().upper().partition(":")
        if kind not in ("CPU", "GPU") or not (number or "1").isdigit():
            raise ValueError(f"'{part.strip()}' is no kind and number of devices; it is like CPU:2 or GPU:1")
        found[kind] = max(found.get(kind, 0), int(number or 1))
    return found


def chosen_devices(counts: Mapping[str, int]) -> tuple[str, str]:
    """Where the two halves of the network go: the first device, and the last."""
    last = "/GPU:0" if counts.get("GPU") else f"/CPU:{min(counts['CPU'], 2) - 1}"
    return "/CPU:0", last


class Network:
    """The graph: an image goes in, ten numbers come out, the largest of which names the digit.

    `devices` are where the hidden and the output layer are.
    """

    def __init__(
        self,
        test_images: np.ndarray,
        test_labels: np.ndarray,
        devices: tuple[str, str] = ("/CPU:0", "/CPU:0"),
    ) -> None:
        self.first, self.second = devices
        with tf.device(self.first), tf.name_scope("hidden"):
            self.hidden_weights = tf.Variable(
                tf.truncated_normal([64, HIDDEN], stddev=0.15, seed=SEED), name="weights"
            )
            self.hidden_bias = tf.Variable(tf.zeros([HIDDEN]), name="bias")
        with tf.device(self.second), tf.name_scope("output"):
            self.output_weights = tf.Variable(
                tf.truncated_normal([HIDDEN, 10], stddev=0.1, seed=SEED), name="weights"
            )
            self.output_bias = tf.Variable(tf.zeros([10]), name="bias")

        self.images = tf.placeholder(tf.float32, [None, 64], name="images")
        self.labels = tf.placeholder(tf.int32, [None], name="labels")
        self.training = tf.placeholder_with_default(False, [], name="training")

        # While training, the pixels are shaken a little, so that the network learns digits and not pictures.  Only one of the
        # two branches runs; through the other go dead tokens.
        with tf.device(self.first), tf.name_scope("shake"):
            pixels = tf.cond(
                self.training,
                lambda: self.images + tf.random_normal(tf.shape(self.images), stddev=0.15, seed=SEED),
                lambda: tf.clip_by_value(self.images, 0.0, 1.0),
            )

        logits = self.read(pixels)
        with tf.device(self.second), tf.name_scope("loss"):
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
            self.loss = tf.reduce_mean(losses, name="mean")
        self.step = tf.train.get_or_create_global_step()
        self.train = tf.train.AdamOptimizer(0.003).minimize(
            self.loss, global_step=self.step, colocate_gradients_with_ops=True, name="train"
        )

        with tf.name_scope("evaluate"):
            self.accuracy = self.evaluate(
                tf.constant(test_images, name="images"), tf.constant(test_labels, name="labels")
            )

    def read(self, images: tf.Tensor) -> tf.Tensor:
        """Logits [n, 10] for images [n, 64]."""
        with tf.name_scope("read"):
            with tf.device(self.first):
                hidden = tf.nn.relu(tf.matmul(images, self.hidden_weights) + self.hidden_bias, name="hidden")
            with tf.device(self.second):
                logits: tf.Tensor = tf.add(
                    tf.matmul(hidden, self.output_weights), self.output_bias, name="logits"
                )
        return logits

    def evaluate(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The share of `images` that is read right: a loop inside the graph, a few images a turn."""
        count = tf.shape(images)[0]

        def read_some(start: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            stop = tf.minimum(start + EVALUATE_AT_ONCE, count)
            guesses = tf.argmax(self.read(images[start:stop]), axis=1, output_type=tf.int32)
            hits = tf.cast(tf.equal(guesses, labels[start:stop]), tf.int32)
            return stop, right + tf.reduce_sum(hits)

        _, right = tf.while_loop(lambda start, right: start < count, read_some, [0, 0], name="turns")
        share: tf.Tensor = tf.cast(right, tf.float32) / tf.cast(count, tf.float32)
        return share


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600, help="training steps (default: %(default)s)")
    parser.add_argument(
        "--devices",
        default=DEVICES,
        type=parse_devices,
        help="how many devices of each kind, such as CPU:2 or CPU:1,GPU:1; a GPU is a modelled one (default: %(default)s)",
    )
    options = parser.parse_args()
    steps: int = options.steps

    train_images, train_labels, test_images, test_labels = load_digits()
    network = Network(test_images, test_labels, chosen_devices(options.devices))
    rng = np.random.default_rng(SEED)

    config = tf.ConfigProto(device_count=options.devices, gpu_options=tf.GPUOptions(modelled=True))
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        for step in range(1, steps + 1):
            batch = rng.integers(len(train_labels), size=BATCH)
            _, loss = session.run(
                [network.train, network.loss],
                feed_dict={
                    network.images: train_images[batch],
                    network.labels: train_labels[batch],
                    network.training: True,
                },
            )
            tracing.scalar("loss", loss, step)
            if step % REPORT_EVERY == 0 or step == steps:
                accuracy, weights = session.run([network.accuracy, network.hidden_weights])
                tracing.scalar("accuracy", accuracy, step)
                tracing.histogram("hidden/weights", weights, step)
                print(
                    f"step {step:4} of {steps}: loss {loss:.4f}, {accuracy:.1%} of the held-out digits read right",
                    flush=True,
                )


if __name__ == "__main__":
    main()
