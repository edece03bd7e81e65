"""The second study: what a training step of a workload costs, in PyTorch and in Keras on TensorFlow or JAX.

It has the words, the cell files and the measuring of the first study; this page tells what is its own.

A training cell is gpu x workload x image size x mode x phase x batch size x sweep: one process, one file. Its file is
`results/training/<gpu>/cells/<id>.<recipe>.parquet`, with the device's samples in `telemetry/` beside `cells/`:

    results/training/H100/cells/conv6_224px_eager-fp32_train_b64_s1.0123456789ab.parquet

`deepgap.training.cell.training_cell_id` names it and `deepgap.cells.cell_file.read_cell` reads it.

**Recipe** (`TrainingCell.recipe`):

- `study`: always `training`. `training_version`, `workload_version`, `runtime_version`: of the code behind it.
- `model`: the workload: conv6, vgg16, resnet18, cyclegan.
- `image_size`: pixels of a side; 224 (CycleGAN 256) is the published set-up, 32 CIFAR-10's own
  (`Workload.published`, `Workload.native_size`).
- `phase`: `train` is a whole step, from images on the device to updated weights; `inference` is a forward pass of the
  network that serves (CycleGAN: the generator from A to B).
- `mode`: `runtime-precision`. The runtimes are `eager`, `compile` and `compilegraph` (PyTorch), `tensorflow` and
  `tensorflow_xla` (Keras on TensorFlow, as a graph and through XLA), `jax` (Keras on JAX, always XLA).
- `framework`: `pytorch`, `keras-tensorflow` or `keras-jax`; a JAX row is never called TensorFlow.
- `precision`: `fp32`, `tf32`, or `mixed_fp16` and `mixed_bf16`, where weights and updates are FP32 and convolutions
  and matrix products are of the narrow type.
- `batch_size`: samples a call; a sample of CycleGAN is a pair of images, in the phase inference one image.
- `optimizer`: in the phase train alone.
- `protocol`, `threads`, `sweep`, `layout`, `options`, `weights`: as in the first study, without held-out images.

**Rows** (`cell_file.SCHEMA`): the arms `latency` and `throughput` time a whole call of the phase. `forward` (loss
included) and `gradients` (forward and backward) time parts of a train step where the protocol asks for them; so the
backward pass is gradients less forward, and the optimiser is latency less gradients. CycleGAN has two optimisers in
one step, so its `forward` and `gradients` hold the parts of both. The framework keras-jax shows no CUDA events: its
device_ms is host time until the result is there. Samples a second are 1000 x batch_size x calls / host_ms of the
throughput arm.

**Statuses**: `ok`; `out_of_memory` for a batch that does not fit; `unsupported`, with the reason; `refused` for a
loss that is not finite, or times that cannot be.

**Footer**: `weights_sha256` is of the seeded initial weights, the same in every framework.
`observed.facts.multiply_adds` is of a sample in the cell's phase, backward pass included in train: half of the FLOPs
that PyTorch's FlopCounterMode counts, without the optimiser's few element-wise operations. So
`cells.bounds.peak_share` holds as it is. `observed.training` has `parameters` (of all networks),
`forward_multiply_adds` and `step_multiply_adds` of a sample, `steps` (calls that changed the weights), `loss_first`
and `loss_last` (null in the phase inference). `observed.intraop_threads`, `provenance.host` and
`provenance.libraries` (the framework's own versions) tell the rest.
"""
