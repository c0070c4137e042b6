"""BibTeX of what a published model rests on."""

from __future__ import annotations

SEQGAN = """@inproceedings{yu2017seqgan,
  title     = {{SeqGAN}: Sequence Generative Adversarial Nets with Policy Gradient},
  author    = {Yu, Lantao and Zhang, Weinan and Wang, Jun and Yu, Yong},
  booktitle = {Proceedings of AAAI},
  year      = {2017}
}"""
ADVERSARIAL_DIALOGUE = """@inproceedings{li2017adversarial,
  title     = {Adversarial Learning for Neural Dialogue Generation},
  author    = {Li, Jiwei and Monroe, Will and Shi, Tianlin and Jean, Sébastien and Ritter, Alan
               and Jurafsky, Dan},
  booktitle = {Proceedings of EMNLP},
  year      = {2017}
}"""
PPO = """@article{schulman2017proximal,
  title   = {Proximal Policy Optimization Algorithms},
  author  = {Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec
             and Klimov, Oleg},
  journal = {arXiv preprint arXiv:1707.06347},
  year    = {2017}
}"""
PREFERENCES = """@article{ziegler2019finetuning,
  title   = {Fine-Tuning Language Models from Human Preferences},
  author  = {Ziegler, Daniel M. and Stiennon, Nisan and Wu, Jeffrey and Brown, Tom B.
             and Radford, Alec and Amodei, Dario and Christiano, Paul and Irving, Geoffrey},
  journal = {arXiv preprint arXiv:1909.08593},
  year    = {2019}
}"""
TRL = """@software{vonwerra2020trl,
  title  = {{TRL}: Transformers Reinforcement Learning},
  author = {von Werra, Leandro and Belkada, Younes and Tunstall, Lewis and Beeching, Edward
            and Thrush, Tristan and Lambert, Nathan and Huang, Shengyi and Rasul, Kashif
            and Gallouédec, Quentin},
  url    = {https://github.com/huggingface/trl},
  year   = {2020}
}"""
BERT = """@inproceedings{devlin2019bert,
  title     = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author    = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Proceedings of NAACL},
  year      = {2019}
}"""
DEBERTA = """@inproceedings{he2021deberta,
  title     = {{DeBERTa}: Decoding-enhanced {BERT} with Disentangled Attention},
  author    = {He, Pengcheng and Liu, Xiaodong and Gao, Jianfeng and Chen, Weizhu},
  booktitle = {Proceedings of ICLR},
  note      = {arXiv:2006.03654},
  year      = {2021}
}"""
DIALOGPT = """@inproceedings{zhang2020dialogpt,
  title     = {{DialoGPT}: Large-Scale Generative Pre-training for Conversational Response
               Generation},
  author    = {Zhang, Yizhe and Sun, Siqi and Galley, Michel and Chen, Yen-Chun and Brockett, Chris
               and Gao, Xiang and Gao, Jianfeng and Liu, Jingjing and Dolan, Bill},
  booktitle = {Proceedings of ACL: System Demonstrations},
  year      = {2020}
}"""
BLENDERBOT = """@inproceedings{roller2021recipes,
  title     = {Recipes for Building an Open-Domain Chatbot},
  author    = {Roller, Stephen and Dinan, Emily and Goyal, Naman and Ju, Da and Williamson, Mary
               and Liu, Yinhan and Xu, Jing and Ott, Myle and Smith, Eric Michael
               and Boureau, Y-Lan and Weston, Jason},
  booktitle = {Proceedings of EACL},
  year      = {2021}
}"""


def generator_papers(model_type: str) -> str:
    """The method's papers, and the one of the generator's family where it has one."""
    family = {"gpt2": [DIALOGPT], "blenderbot-small": [BLENDERBOT]}.get(model_type, [])
    return "\n\n".join([SEQGAN, ADVERSARIAL_DIALOGUE, PPO, PREFERENCES, TRL, *family])


def discriminator_papers(model_type: str) -> str:
    """The method's papers, and the one of the encoder's family where it is known here."""
    family = {"bert": [BERT], "deberta-v2": [DEBERTA]}.get(model_type, [])
    return "\n\n".join([SEQGAN, ADVERSARIAL_DIALOGUE, *family])
