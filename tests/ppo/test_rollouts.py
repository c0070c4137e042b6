import torch

from rlhf_dialog.ppo.rollouts import Rollout


def test_rows_of_a_rollout_are_trimmed_to_their_longest_response():
    def column(width, offset):
        return torch.arange(3 * width).view(3, width) + offset

    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    rollout = Rollout(
        contexts=[["a"], ["b"], ["c"]],
        replies=["x", "y", "z"],
        context_ids=column(5, 0),
        context_mask=torch.ones(3, 5, dtype=torch.bool),
        reply_ids=column(4, 100),
        reply_mask=mask,
        logprobs=column(4, 200),
        ref_logprobs=column(4, 300),
        values=column(4, 400),
    )
    part = rollout.tensors(torch.tensor([2, 1]))
    assert "contexts" not in part and "replies" not in part
    assert part["context_ids"].tolist() == [[10, 11, 12, 13, 14], [5, 6, 7, 8, 9]]
    assert part["reply_ids"].tolist() == [[108, 109], [104, 105]]
    assert part["reply_mask"].tolist() == [[True, False], [True, True]]
    assert part["values"].tolist() == [[408, 409], [404, 405]]
    assert rollout.tensors(torch.tensor([0]))["logprobs"].shape == (1, 4)
    assert rollout.ended(104).tolist() == [False, True, False]
