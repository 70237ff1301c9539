"""Training of the policy `dqn`: a simulated project, its Gymnasium environment, Stable-Baselines3's DQN, the learning curve.

Only `environment.py` and `dqn.py` import the extra `[rl]`.
"""
