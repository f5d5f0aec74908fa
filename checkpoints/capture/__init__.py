"""Capture of activations from any network: one row per stimulus, and the network unchanged afterwards.

``capture`` is the public class. ``selection`` and ``modules`` choose layers, ``hooks``, ``network`` and ``leaves`` run
a pass and hand over tensors, ``trials``, ``stimulus_axis`` and ``recording_plan`` establish which axis indexes the
stimuli, ``recorded_block`` turns a pass into values, ``preservation`` and ``evaluation_mode`` restore the network, and
``reductions`` make activations smaller.
"""
