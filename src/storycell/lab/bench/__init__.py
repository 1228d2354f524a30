"""Speed, beside torch's own layers and a plain loop where torch is installed, interleaved in one run.

`train` measures whole training steps, `sample` generation, `prepare` turning text into token files. Each takes a
`Workload` and gives figures as plain JSON, the machine and its roofline among them.
"""
