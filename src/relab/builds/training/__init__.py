"""Train the policy `dqn`, which chooses actions for builds, on simulated builds.

The package contains a simulated project, a Gymnasium environment around it, the training with the DQN of
Stable-Baselines3, and the page of the learning curve. Only `environment.py` and `dqn.py` import packages of the extra
`[rl]`.
"""
