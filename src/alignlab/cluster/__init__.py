"""Run the seeds and branches of a study as tasks of a Ray cluster (`hardware.cluster`).

`session` connects and checks the nodes, `placement` plans what runs where, `tasks` submits and
repeats what was lost, `studies` turns studies into tasks, `worker` is what runs on the nodes,
`engines` sample and judge for all tasks, `gang` and `member` let several processes do one task. No
task waits for another: a study that reaches its branches ends its task, and is run again with their
results, which reads what it did before from the run directory, as a resumed run does.
"""
