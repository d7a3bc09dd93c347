"""Walks over a data set, whoever measures the batches."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from onnx2snn.evaluation.processes import ProcessCrew, share_of
from onnx2snn.evaluation.schedule import Here, Scheduler, Task, Team
from onnx2snn.evaluation.totals import Totals
from onnx2snn_runtime.data.input_preprocessing import Preprocessings
from onnx2snn_runtime.data.inputs import InputData, Piece
from onnx2snn_runtime.network import Network


@dataclass(frozen=True)
class Walk:
    """How a data set is walked through.

    Attributes:
        network: the network that takes the images.
        data: the images.
        count: how many of them.
        batch_size: images at once.
        preprocessing: for images that are stored as bytes.
        workers: processes, or actors at most; None: one, or as many as the cluster has room for.
        ray: address of a cluster, None for this machine.
        progress: is told how many images of how many are done.
    """

    network: Network
    data: InputData
    count: int
    batch_size: int
    preprocessing: Preprocessings | None
    workers: int | None
    ray: str | None
    progress: Callable[[int, int], None]

    def measure(
        self, task: Task, totals: Totals, keep: Callable[[Totals], None] = lambda totals: None
    ) -> None:
        """Measure the batches that ``totals`` does not know and add them to it, in order.

        Args:
            task: what to measure.
            totals: what is known so far.
            keep: is given the totals after each batch.
        """
        known = totals.images
        if known:
            self.progress(known, self.count)
        if known >= self.count:
            return
        left = (piece for piece in self.pieces() if piece.first >= known)
        with closing(self.scheduler(task, self.count - known).totals(left)) as batches:
            for batch in batches:
                totals.merge(batch)
                keep(totals)
                self.progress(totals.images, self.count)

    def pieces(self) -> Iterator[Piece]:
        """All batches."""
        shapes = self.network.input_shapes
        return self.data.pieces(self.batch_size, shapes, self.preprocessing, self.count)

    def scheduler(self, task: Task, images: int) -> Scheduler:
        """Who measures so many images."""
        batches = math.ceil(images / self.batch_size)
        if self.ray is not None:
            from onnx2snn.evaluation.ray_crew import RayCrew

            return Team(RayCrew(self.ray, self.workers, batches, task, self.network))
        wanted = min(self.workers or 1, batches)
        if wanted == 1:
            return Here(self.network, task)
        return Team(ProcessCrew(wanted, share_of(self.network, task, wanted)))
