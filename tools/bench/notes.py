"""Synthesised music with known notes, and the note F1 that transcription is judged by.

A clip is 2 seconds of plucked tones (harmonics that die away, higher ones faster) over faint noise,
drawn from a seed. A note is found when one is transcribed at the same semitone with its onset
within 50 ms, each note matched once: the onset-only note F1 of the field (mir_eval's
`precision_recall_f1_overlap` with `offset_ratio=None`; Raffel et al. 2014).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

RATE = 22050
HOP = 256
CLIP_SAMPLES = 2 * RATE - HOP
LOWEST_MIDI = 21  # Row 0 of the note and onset posteriorgrams is A0.
MAX_NOTES = 16
ONSET_TOLERANCE = 0.05
ONSET_THRESHOLD, FRAME_THRESHOLD, SHORTEST_FRAMES = 0.5, 0.3, 11


@dataclasses.dataclass(frozen=True)
class Clips:
    """Attributes:
    audio: float32 [clips, CLIP_SAMPLES, 1] in [-1, 1].
    table: float32 [clips, MAX_NOTES, 2]; onset in seconds and MIDI pitch, padded with -1.
    """

    audio: np.ndarray
    table: np.ndarray


def _tone(rng: np.random.Generator, midi: int, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    frequency = 440 * 2 ** ((midi - 69) / 12)
    harmonics = np.arange(1, 9)
    harmonics = harmonics[harmonics * frequency < 0.45 * RATE]
    slope = rng.uniform(1.0, 2.0)
    decay = rng.uniform(1.5, 4.0)
    phase = rng.uniform(0, 2 * np.pi, harmonics.size)
    tone = np.zeros_like(time)
    for k, start in zip(harmonics, phase, strict=True):
        envelope = np.exp(-decay * (0.7 + 0.3 * k) * time)
        tone += k**-slope * envelope * np.sin(2 * np.pi * k * frequency * time + start)
    attack, release = int(0.004 * RATE), int(0.02 * RATE)
    tone[:attack] *= np.linspace(0, 1, attack)
    tone[-release:] *= np.linspace(1, 0, release)
    return tone / max(1e-9, np.abs(tone).max())


def draw_clips(count: int, seed: int, voices: int) -> Clips:
    """`count` clips of `voices` melodies at once, each in a compass of its own.

    With one voice every note stands alone and the float model finds nearly all of them; with more,
    harmonics coincide and it does not.
    """
    rng = np.random.default_rng(seed)
    audio = np.zeros((count, CLIP_SAMPLES, 1), np.float32)
    table = np.full((count, MAX_NOTES, 2), -1, np.float32)
    for clip in range(count):
        mix = np.zeros(CLIP_SAMPLES)
        written = 0
        for centre in rng.permutation([45, 57, 69, 81])[:voices]:
            onset = rng.uniform(0.1, 0.3)
            while onset < 1.55 and written < MAX_NOTES:
                length = rng.uniform(0.25, 0.5)
                midi = int(centre + rng.integers(-5, 6))
                tone = rng.uniform(0.4, 1.0) * _tone(rng, midi, length)
                first = int(onset * RATE)
                tone = tone[: CLIP_SAMPLES - first]
                mix[first : first + tone.size] += tone
                table[clip, written] = onset, midi
                written += 1
                onset += length + rng.uniform(0.02, 0.15)
        mix *= rng.uniform(0.3, 0.9) / np.abs(mix).max()
        audio[clip, :, 0] = mix + rng.normal(0, 10 ** rng.uniform(-4, -2), CLIP_SAMPLES)
    return Clips(np.clip(audio, -1, 1), table)


def transcribe(note: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """Notes in one clip's posteriorgrams, the way basic-pitch's authors read them.

    An onset is a local maximum in time above 0.5; its note lasts until the frame posterior has been
    below 0.3 for 11 frames, and counts from 11 frames on.

    Args:
      note, onset: float [frames, 88].

    Returns:
      [notes, 2]: onset in seconds and MIDI pitch.
    """
    peaks = np.zeros(onset.shape, bool)
    peaks[1:-1] = (onset[1:-1] > onset[:-2]) & (onset[1:-1] >= onset[2:])
    peaks &= onset >= ONSET_THRESHOLD
    found = []
    for pitch in np.flatnonzero(peaks.any(axis=0)):
        alive = np.append(note[:, pitch] >= FRAME_THRESHOLD, np.zeros(SHORTEST_FRAMES, bool))
        frames = np.flatnonzero(peaks[:, pitch])
        for start, following in zip(frames, np.append(frames[1:], len(note)), strict=True):
            end = silent = 0
            for frame in range(start + 1, following):
                silent = 0 if alive[frame] else silent + 1
                if silent == SHORTEST_FRAMES:
                    break
                end = frame - start - silent
            if end >= SHORTEST_FRAMES:
                found.append((start * HOP / RATE, pitch + LOWEST_MIDI))
    return np.array(found).reshape(-1, 2)


def match(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """(hits, false notes, missed notes) under the best one-to-one matching."""
    truth = truth[truth[:, 1] >= 0]
    near = np.abs(truth[:, None, 0] - found[None, :, 0]) <= ONSET_TOLERANCE
    pairs = sparse.csr_matrix(near & (truth[:, None, 1] == found[None, :, 1]))
    hits = int(np.sum(csgraph.maximum_bipartite_matching(pairs, "column") >= 0))
    return hits, len(found) - hits, len(truth) - hits


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of summed counts; `counts` [..., 3] holds hits, false notes, missed notes."""
    hits, false, missed = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return 2 * hits / np.maximum(2 * hits + false + missed, 1)
