"""Storage of a run: files written durably by one process, and read without trust in their origin.

Writing: ``commit``, ``lock``, ``lease``, ``log``, ``manifest``, ``sink``, ``activation_file``. Reading:
``regular_files``, ``hdf5``, ``hdf5_datasets``, ``hdf5_attributes``, ``nested_state``, ``weights``.
``docs/run-format.md`` lists the threats and the module that serves each of them.
"""
