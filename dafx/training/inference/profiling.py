"""What a model of an effect costs: size, arithmetic, memory, speed."""

import json
import os
import pathlib
import resource
import statistics
import time

import numpy as np
import tensorflow as tf

from dafx import processors

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def count_parameters(model: tf.keras.Model) -> int:
  """Returns the number of trained weights of a model that has run."""
  return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def count_macs(group) -> tuple[float, list[str]]:
  """Counts the multiply-accumulates for a sample of audio.

  Args:
    group: ProcessorGroup of nodes that tell (`macs_per_sample`).

  Returns:
    (their sum, names of the nodes that do not tell).
  """
  nodes = processors.nodes(group)
  by_name = {n: m.macs_per_sample for n, m in nodes.items()}
  untold = [n for n, macs in by_name.items() if macs is None]
  told = [macs for macs in by_name.values() if macs is not None]
  return float(sum(told)), untold


def streaming_seconds(
  model, block_size: int, seconds: float = 0.3
) -> tuple[float, float]:
  """Times a model on a stream of blocks of noise.

  Args:
    model: An EffectModel.
    block_size: Samples per block.
    seconds: How long to measure, about; at least five blocks.

  Returns:
    (median, longest) seconds per block, without those that compile.
  """
  rng = np.random.default_rng(0)
  inputs = {
    'audio': tf.constant(0.1 * rng.standard_normal([1, block_size]), tf.float32)
  }
  if 'knobs' in model.inputs_used:
    inputs['knobs'] = tf.fill([1, model.n_knobs], 0.5)
  streamer = processors.Streamer(model.processor_group)
  # Blocks lie at a few places in a frame, each compiled once; then again.
  frame_size = max(
    node.frame_size for node in processors.nodes(model.processor_group).values()
  )
  n_warm = (
    2 * max(frame_size // block_size, 1)
    + 2
    + -(-2 * streamer.latency // block_size)
  )
  for _ in range(n_warm):
    streamer.process(**inputs)
  times: list[float] = []
  while sum(times) < seconds or len(times) < 5:
    start = time.perf_counter()
    streamer.process(**inputs).numpy()
    times.append(time.perf_counter() - start)
  return statistics.median(times), max(times)


def profile(model, block_sizes=BLOCK_SIZES, seconds: float = 0.3) -> dict:
  """Measures what a model costs on this machine.

  Args:
    model: An EffectModel that has run.
    block_sizes: Samples per block, to stream in.
    seconds: How long to measure each size, about.

  Returns:
    JSON-able: 'parameters', 'macs_per_second' and 'flops_per_second' of audio
    (a multiply-accumulate is two), 'not_counted' (nodes that do not tell),
    'receptive_field' in samples (None: without bounds), 'latency' in samples,
    'state_bytes' of one stream, 'peak_bytes' of the process, 'n_threads' of
    TensorFlow (0: as many as there are processors), and for each block size
    'real_time_factor' (time over duration; below 1 is faster than real time)
    and that of the longest block.
  """
  rate = model.sample_rate
  macs, untold = count_macs(model.processor_group)
  streamer = processors.Streamer(model.processor_group)
  state = tf.nest.flatten(streamer.states)
  blocks = {}
  for size in block_sizes:
    median, longest = streaming_seconds(model, size, seconds)
    blocks[str(size)] = {
      'real_time_factor': median * rate / size,
      'longest': longest * rate / size,
    }
  peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {
    'sample_rate': rate,
    'parameters': count_parameters(model),
    'macs_per_second': macs * rate,
    'flops_per_second': 2 * macs * rate,
    'not_counted': untold,
    'receptive_field': model.receptive_field,
    'latency': streamer.latency,
    'state_bytes': sum(s.dtype.size * int(np.prod(s.shape)) for s in state),
    'peak_bytes': 1024 * peak_kib,
    'n_threads': tf.config.threading.get_intra_op_parallelism_threads(),
    'blocks': blocks,
  }


def describe(profile: dict) -> str:
  """Returns a profile as text, a line for each figure."""
  rate = profile['sample_rate']
  field = profile['receptive_field']
  extent = 'without bounds'
  if field is not None:
    extent = f'{field:,} samples ({1e3 * field / rate:.1f} ms)'
  lines = [
    f'parameters        {profile["parameters"]:,}',
    f'arithmetic        {profile["macs_per_second"] / 1e6:,.1f} M'
    ' multiply-accumulates per second of audio'
    f' ({profile["flops_per_second"] / 1e6:,.1f} MFLOPS)',
    f'receptive field   {extent}',
    f'latency           {profile["latency"]} samples',
    f'state             {profile["state_bytes"] / 1024:,.1f} KiB per stream',
    f'peak memory       {profile["peak_bytes"] / 2**20:,.0f} MiB, TensorFlow'
    ' included',
    '',
    f'streaming at {rate:,} Hz, {profile["n_threads"] or "all"} threads',
    'block    ms    real-time factor    longest block',
  ]
  if profile['not_counted']:
    lines.insert(2, f'  without         {", ".join(profile["not_counted"])}')
  for size, row in profile['blocks'].items():
    lines.append(
      f'{int(size):6,} {1e3 * int(size) / rate:7.2f} '
      f'{row["real_time_factor"]:14.3f} {row["longest"]:17.3f}'
    )
  return '\n'.join(lines)


def write(profile: dict, folder: str | os.PathLike) -> pathlib.Path:
  """Writes a profile as profile.json; returns its path."""
  path = pathlib.Path(folder) / 'profile.json'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(profile, indent=2) + '\n', encoding='utf-8')
  return path
