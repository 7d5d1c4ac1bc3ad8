"""BibTeX for the software and for every method that an experiment uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import study

if TYPE_CHECKING:
    from study.trials import Experiment

CITATION_FILE = Path(study.__file__).resolve().parent.parent / "CITATION.cff"
SOFTWARE = "influence-fragility-study"
ALWAYS = ("koh2017understanding", "basu2021influence")  # the method, and the finding this study re-examines

INTERVALS = ("fisher1915frequency", "satterthwaite1946approximate", "bell2002bias")  # from the draws to their ends

# (kind of choice, its value in the spec or column of `cells`): what to cite. Empty: nothing that needs a reference.
CITED: dict[tuple[str, str], tuple[str, ...]] = {
    ("estimator", "exact"): ("koh2017understanding", "cook1977detection"),
    ("estimator", "ggn"): ("martens2020new", "bae2022if"),
    ("estimator", "identity"): ("charpiat2019input",),
    ("estimator", "cg"): (
        "koh2017understanding",
        "hestenes1952methods",
        "steihaug1983conjugate",
        "paige1975solution",
        "martens2010deep",
        "pearlmutter1994fast",
    ),
    ("estimator", "lissa"): ("agarwal2017second", "koh2017understanding", "guo2021fastif", "pearlmutter1994fast"),
    ("estimator", "arnoldi"): ("schioppa2022scaling", "lehoucq1998arpack", "pearlmutter1994fast"),
    ("estimator", "nystrom"): ("frangella2023randomized", "pearlmutter1994fast"),
    ("estimator", "newton_step"): ("pregibon1981logistic", "beirami2017optimal"),
    ("estimator", "unrolled"): ("hara2019data", "maclaurin2015gradient"),
    ("estimator", "kfac"): ("martens2015optimizing", "eschenhagen2023kronecker", "dangel2025position"),
    ("estimator", "ekfac"): ("george2018fast", "grosse2023studying", "dangel2025position"),
    ("estimator", "perturb_input"): ("koh2017understanding",),
    ("estimator", "tracin"): ("pruthi2020estimating",),
    ("neighbours", "faiss"): ("guo2021fastif", "douze2024faiss"),
    ("paths", "gaps"): ("bae2022if",),
    ("protocol", "warm"): ("koh2017understanding", "basu2021influence"),
    ("protocol", "cold"): ("bae2022if",),
    ("protocol", "cold_seeds"): ("bae2022if", "k2021revisiting", "nguyen2023bayesian"),
    ("protocol", "horizon"): ("koh2017understanding", "schioppa2023theoretical"),
    ("protocol", "pbrf"): ("bae2022if",),
    ("protocol", "proximal"): ("bae2022if",),
    ("protocol", "linearised_pbrf"): ("bae2022if", "martens2020new"),
    ("protocol", "stationary"): ("bae2022if", "nocedal2006numerical"),
    ("optimizer", "adam"): ("kingma2015adam",),
    ("optimizer", "sgd"): ("polyak1964some",),
    ("optimizer", "lbfgs"): ("liu1989limited",),
    ("schedule", "constant"): (),
    ("schedule", "plateau"): (),
    ("schedule", "step"): (),
    ("schedule", "cosine"): ("loshchilov2017sgdr",),
    ("activation", "tanh"): (),
    ("activation", "relu"): (),
    ("activation", "softplus"): (),
    ("activation", "selu"): ("klambauer2017self",),
    ("activation", "gelu"): ("hendrycks2016gaussian",),
    ("model", "koh_cnn"): ("koh2017understanding",),
    ("model", "lenet"): ("lecun1998gradient",),
    ("model", "resnet"): ("he2016deep",),
    ("data", "iris"): ("fisher1936use", "epifano2023revisiting"),
    ("data", "digits"): ("alpaydin1998optical",),
    ("data", "wine"): ("aeberhard1992wine",),
    ("data", "breast_cancer"): ("wolberg1993breast",),
    ("data", "diabetes"): ("efron2004least",),
    ("data", "mnist"): ("lecun1998gradient",),
    ("data", "fashion_mnist"): ("xiao2017fashion",),
    ("data", "cifar10"): ("krizhevsky2009learning",),
    ("data", "cifar10_standin"): ("krizhevsky2009learning",),
    ("column", "spearman_low"): ("owen2007pigeonhole", *INTERVALS),
    ("column", "pearson_low"): ("owen2007pigeonhole", *INTERVALS),
    ("column", "spearman_band_low"): ("fisher1935design",),
    ("column", "pearson_band_low"): ("fisher1935design",),
    ("column", "spearman"): ("spearman1904proof",),
    ("column", "kendall"): ("kendall1938new",),
    ("column", "reliability"): ("spearman1910correlation", "brown1910some"),
    ("column", "reliability_low"): (
        "tukey1958bias",
        "feldt1965approximate",
        "efron1981jackknife",
        "satterthwaite1946approximate",
    ),
    ("column", "disattenuated"): ("spearman1904proof",),
}

ENTRIES: dict[str, tuple[str, dict[str, str]]] = {
    "koh2017understanding": ("inproceedings", {
        "author": "Koh, Pang Wei and Liang, Percy",
        "title": "Understanding Black-box Predictions via Influence Functions",
        "booktitle": "Proceedings of the 34th International Conference on Machine Learning",
        "series": "Proceedings of Machine Learning Research", "volume": "70", "pages": "1885--1894", "year": "2017",
    }),
    "hestenes1952methods": ("article", {
        "author": "Hestenes, Magnus R. and Stiefel, Eduard",
        "title": "Methods of Conjugate Gradients for Solving Linear Systems",
        "journal": "Journal of Research of the National Bureau of Standards", "volume": "49", "number": "6",
        "pages": "409--436", "year": "1952",
    }),
    "steihaug1983conjugate": ("article", {
        "author": "Steihaug, Trond",
        "title": "The Conjugate Gradient Method and Trust Regions in Large Scale Optimization",
        "journal": "SIAM Journal on Numerical Analysis", "volume": "20", "number": "3", "pages": "626--637",
        "year": "1983",
    }),
    "paige1975solution": ("article", {
        "author": "Paige, Christopher C. and Saunders, Michael A.",
        "title": "Solution of Sparse Indefinite Systems of Linear Equations",
        "journal": "SIAM Journal on Numerical Analysis", "volume": "12", "number": "4", "pages": "617--629",
        "year": "1975",
    }),
    "lehoucq1998arpack": ("book", {
        "author": "Lehoucq, Richard B. and Sorensen, Danny C. and Yang, Chao",
        "title": "{ARPACK} Users' Guide: Solution of Large-Scale Eigenvalue Problems with Implicitly Restarted {Arnoldi} Methods",
        "publisher": "SIAM", "year": "1998",
    }),
    "frangella2023randomized": ("article", {
        "author": "Frangella, Zachary and Tropp, Joel A. and Udell, Madeleine",
        "title": "Randomized {Nystr{\\\"o}m} Preconditioning",
        "journal": "SIAM Journal on Matrix Analysis and Applications", "volume": "44", "number": "2",
        "pages": "718--752", "year": "2023",
    }),
    "guo2021fastif": ("inproceedings", {
        "author": "Guo, Han and Rajani, Nazneen Fatema and Hase, Peter and Bansal, Mohit and Xiong, Caiming",
        "title": "{FastIF}: Scalable Influence Functions for Efficient Model Interpretation and Debugging",
        "booktitle": "Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing",
        "pages": "10333--10350", "year": "2021",
    }),
    "douze2024faiss": ("misc", {
        "author": "Douze, Matthijs and Guzhva, Alexandr and Deng, Chengqi and Johnson, Jeff and Szilvasy, Gergely and "
        "Mazar{\\'e}, Pierre-Emmanuel and Lomeli, Maria and Hosseini, Lucas and J{\\'e}gou, Herv{\\'e}",
        "title": "The {Faiss} library", "howpublished": "arXiv:2401.08281", "year": "2024",
    }),
    "spearman1910correlation": ("article", {
        "author": "Spearman, Charles", "title": "Correlation Calculated from Faulty Data",
        "journal": "British Journal of Psychology", "volume": "3", "number": "3", "pages": "271--295", "year": "1910",
    }),
    "brown1910some": ("article", {
        "author": "Brown, William", "title": "Some Experimental Results in the Correlation of Mental Abilities",
        "journal": "British Journal of Psychology", "volume": "3", "number": "3", "pages": "296--322", "year": "1910",
    }),
    "tukey1958bias": ("article", {
        "author": "Tukey, John W.", "title": "Bias and Confidence in Not-Quite Large Samples",
        "journal": "The Annals of Mathematical Statistics", "volume": "29", "number": "2", "pages": "614", "year": "1958",
    }),
    "feldt1965approximate": ("article", {
        "author": "Feldt, Leonard S.",
        "title": "The Approximate Sampling Distribution of {Kuder-Richardson} Reliability Coefficient Twenty",
        "journal": "Psychometrika", "volume": "30", "number": "3", "pages": "357--370", "year": "1965",
    }),
    "efron1981jackknife": ("article", {
        "author": "Efron, Bradley and Stein, Charles", "title": "The Jackknife Estimate of Variance",
        "journal": "The Annals of Statistics", "volume": "9", "number": "3", "pages": "586--596", "year": "1981",
    }),
    "hara2019data": ("inproceedings", {
        "author": "Hara, Satoshi and Nitanda, Atsushi and Maehara, Takanori",
        "title": "Data Cleansing for Models Trained with {SGD}",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "32", "year": "2019",
    }),
    "maclaurin2015gradient": ("inproceedings", {
        "author": "Maclaurin, Dougal and Duvenaud, David and Adams, Ryan P.",
        "title": "Gradient-based Hyperparameter Optimization through Reversible Learning",
        "booktitle": "Proceedings of the 32nd International Conference on Machine Learning",
        "series": "Proceedings of Machine Learning Research", "volume": "37", "pages": "2113--2122", "year": "2015",
    }),
    "pregibon1981logistic": ("article", {
        "author": "Pregibon, Daryl",
        "title": "Logistic Regression Diagnostics",
        "journal": "The Annals of Statistics", "volume": "9", "number": "4", "pages": "705--724", "year": "1981",
    }),
    "beirami2017optimal": ("inproceedings", {
        "author": "Beirami, Ahmad and Razaviyayn, Meisam and Shahrampour, Shahin and Tarokh, Vahid",
        "title": "On Optimal Generalizability in Parametric Learning",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "30", "year": "2017",
    }),
    "basu2021influence": ("inproceedings", {
        "author": "Basu, Samyadeep and Pope, Phillip and Feizi, Soheil",
        "title": "Influence Functions in Deep Learning Are Fragile",
        "booktitle": "International Conference on Learning Representations", "year": "2021",
    }),
    "epifano2023revisiting": ("article", {
        "author": "Epifano, Jacob R. and Ramachandran, Ravi P. and Masino, Aaron J. and Rasool, Ghulam",
        "title": "Revisiting the Fragility of Influence Functions", "journal": "Neural Networks", "volume": "162",
        "pages": "581--588", "year": "2023", "doi": "10.1016/j.neunet.2023.03.029",
    }),
    "bae2022if": ("inproceedings", {
        "author": "Bae, Juhan and Ng, Nathan and Lo, Alston and Ghassemi, Marzyeh and Grosse, Roger B.",
        "title": "If Influence Functions are the Answer, Then What is the Question?",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "35", "pages": "17953--17967",
        "year": "2022",
    }),
    "k2021revisiting": ("misc", {
        "author": "K, Karthikeyan and S{\\o}gaard, Anders", "title": "Revisiting Methods for Finding Influential Examples",
        "howpublished": "arXiv:2111.04683", "year": "2021",
    }),
    "nguyen2023bayesian": ("inproceedings", {
        "author": "Nguyen, Elisa and Seo, Minjoon and Oh, Seong Joon",
        "title": "A {Bayesian} Approach to Analysing Training Data Attribution in Deep Learning",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "36", "year": "2023",
    }),
    "schioppa2023theoretical": ("inproceedings", {
        "author": "Schioppa, Andrea and Filippova, Katja and Titov, Ivan and Zablotskaia, Polina",
        "title": "Theoretical and Practical Perspectives on What Influence Functions Do",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "36", "year": "2023",
    }),
    "cook1977detection": ("article", {
        "author": "Cook, R. Dennis", "title": "Detection of Influential Observation in Linear Regression",
        "journal": "Technometrics", "volume": "19", "number": "1", "pages": "15--18", "year": "1977",
    }),
    "martens2020new": ("article", {
        "author": "Martens, James", "title": "New Insights and Perspectives on the Natural Gradient Method",
        "journal": "Journal of Machine Learning Research", "volume": "21", "number": "146", "pages": "1--76",
        "year": "2020",
    }),
    "eschenhagen2023kronecker": ("inproceedings", {
        "author": "Eschenhagen, Runa and Immer, Alexander and Turner, Richard E. and Schneider, Frank and Hennig, Philipp",
        "title": "{Kronecker}-Factored Approximate Curvature for Modern Neural Network Architectures",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "36", "year": "2023",
    }),
    "george2018fast": ("inproceedings", {
        "author": "George, Thomas and Laurent, C{\\'e}sar and Bouthillier, Xavier and Ballas, Nicolas and Vincent, Pascal",
        "title": "Fast Approximate Natural Gradient Descent in a {Kronecker} Factored Eigenbasis",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "31", "year": "2018",
    }),
    "grosse2023studying": ("misc", {
        "author": "Grosse, Roger and Bae, Juhan and Anil, Cem and others",
        "title": "Studying Large Language Model Generalization with Influence Functions",
        "howpublished": "arXiv:2308.03296", "year": "2023",
    }),
    "dangel2025position": ("misc", {
        "author": "Dangel, Felix and Eschenhagen, Runa and Ormaniec, Weronika and Fernandez, Andres and Tatzel, Lukas and "
        "Kristiadi, Agustinus",
        "title": "Position: Curvature Matrices Should Be Democratized via Linear Operators",
        "howpublished": "arXiv:2501.19183", "year": "2025",
    }),
    "martens2015optimizing": ("inproceedings", {
        "author": "Martens, James and Grosse, Roger",
        "title": "Optimizing Neural Networks with {Kronecker}-factored Approximate Curvature",
        "booktitle": "Proceedings of the 32nd International Conference on Machine Learning",
        "series": "Proceedings of Machine Learning Research", "volume": "37", "pages": "2408--2417", "year": "2015",
    }),
    "martens2010deep": ("inproceedings", {
        "author": "Martens, James", "title": "Deep Learning via {Hessian}-free Optimization",
        "booktitle": "Proceedings of the 27th International Conference on Machine Learning", "pages": "735--742",
        "year": "2010",
    }),
    "charpiat2019input": ("inproceedings", {
        "author": "Charpiat, Guillaume and Girard, Nicolas and Felardos, Loris and Tarabalka, Yuliya",
        "title": "Input Similarity from the Neural Network Perspective",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "32", "year": "2019",
    }),
    "pruthi2020estimating": ("inproceedings", {
        "author": "Pruthi, Garima and Liu, Frederick and Kale, Satyen and Sundararajan, Mukund",
        "title": "Estimating Training Data Influence by Tracing Gradient Descent",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "33", "year": "2020",
    }),
    "pearlmutter1994fast": ("article", {
        "author": "Pearlmutter, Barak A.", "title": "Fast Exact Multiplication by the {Hessian}",
        "journal": "Neural Computation", "volume": "6", "number": "1", "pages": "147--160", "year": "1994",
    }),
    "agarwal2017second": ("article", {
        "author": "Agarwal, Naman and Bullins, Brian and Hazan, Elad",
        "title": "Second-Order Stochastic Optimization for Machine Learning in Linear Time",
        "journal": "Journal of Machine Learning Research", "volume": "18", "number": "116", "pages": "1--40",
        "year": "2017",
    }),
    "schioppa2022scaling": ("inproceedings", {
        "author": "Schioppa, Andrea and Zablotskaia, Polina and Vilar, David and Sokolov, Artem",
        "title": "Scaling Up Influence Functions",
        "booktitle": "Proceedings of the AAAI Conference on Artificial Intelligence", "volume": "36", "number": "8",
        "pages": "8179--8186", "year": "2022",
    }),
    "nocedal2006numerical": ("book", {
        "author": "Nocedal, Jorge and Wright, Stephen J.", "title": "Numerical Optimization", "edition": "2nd",
        "publisher": "Springer", "year": "2006",
    }),
    "kingma2015adam": ("inproceedings", {
        "author": "Kingma, Diederik P. and Ba, Jimmy", "title": "{Adam}: A Method for Stochastic Optimization",
        "booktitle": "International Conference on Learning Representations", "year": "2015",
    }),
    "polyak1964some": ("article", {
        "author": "Polyak, Boris T.", "title": "Some Methods of Speeding up the Convergence of Iteration Methods",
        "journal": "USSR Computational Mathematics and Mathematical Physics", "volume": "4", "number": "5",
        "pages": "1--17", "year": "1964",
    }),
    "liu1989limited": ("article", {
        "author": "Liu, Dong C. and Nocedal, Jorge",
        "title": "On the Limited Memory {BFGS} Method for Large Scale Optimization",
        "journal": "Mathematical Programming", "volume": "45", "pages": "503--528", "year": "1989",
    }),
    "loshchilov2017sgdr": ("inproceedings", {
        "author": "Loshchilov, Ilya and Hutter, Frank",
        "title": "{SGDR}: Stochastic Gradient Descent with Warm Restarts",
        "booktitle": "International Conference on Learning Representations", "year": "2017",
    }),
    "klambauer2017self": ("inproceedings", {
        "author": 'Klambauer, G{\\"u}nter and Unterthiner, Thomas and Mayr, Andreas and Hochreiter, Sepp',
        "title": "Self-Normalizing Neural Networks",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "30", "year": "2017",
    }),
    "hendrycks2016gaussian": ("misc", {
        "author": "Hendrycks, Dan and Gimpel, Kevin", "title": "{Gaussian} Error Linear Units ({GELUs})",
        "howpublished": "arXiv:1606.08415", "year": "2016",
    }),
    "fisher1915frequency": ("article", {
        "author": "Fisher, R. A.", "title": "Frequency Distribution of the Values of the Correlation Coefficient in Samples "
        "from an Indefinitely Large Population", "journal": "Biometrika", "volume": "10", "number": "4",
        "pages": "507--521", "year": "1915",
    }),
    "satterthwaite1946approximate": ("article", {
        "author": "Satterthwaite, F. E.", "title": "An Approximate Distribution of Estimates of Variance Components",
        "journal": "Biometrics Bulletin", "volume": "2", "number": "6", "pages": "110--114", "year": "1946",
    }),
    "bell2002bias": ("article", {
        "author": "Bell, Robert M. and McCaffrey, Daniel F.", "title": "Bias Reduction in Standard Errors for Linear "
        "Regression with Multi-Stage Samples", "journal": "Survey Methodology", "volume": "28", "number": "2",
        "pages": "169--181", "year": "2002",
    }),
    "owen2007pigeonhole": ("article", {
        "author": "Owen, Art B.", "title": "The Pigeonhole Bootstrap",
        "journal": "The Annals of Applied Statistics", "volume": "1", "number": "2", "pages": "386--411",
        "year": "2007", "doi": "10.1214/07-AOAS122",
    }),
    "spearman1904proof": ("article", {
        "author": "Spearman, Charles", "title": "The Proof and Measurement of Association between Two Things",
        "journal": "The American Journal of Psychology", "volume": "15", "number": "1", "pages": "72--101",
        "year": "1904",
    }),
    "kendall1938new": ("article", {
        "author": "Kendall, Maurice G.", "title": "A New Measure of Rank Correlation", "journal": "Biometrika",
        "volume": "30", "number": "1/2", "pages": "81--93", "year": "1938",
    }),
    "fisher1935design": ("book", {
        "author": "Fisher, Ronald A.", "title": "The Design of Experiments", "publisher": "Oliver and Boyd",
        "address": "Edinburgh", "year": "1935",
    }),
    "fisher1936use": ("article", {
        "author": "Fisher, Ronald A.", "title": "The Use of Multiple Measurements in Taxonomic Problems",
        "journal": "Annals of Eugenics", "volume": "7", "number": "2", "pages": "179--188", "year": "1936",
    }),
    "alpaydin1998optical": ("misc", {
        "author": "Alpaydin, E. and Kaynak, C.", "title": "Optical Recognition of Handwritten Digits",
        "howpublished": "UCI Machine Learning Repository", "year": "1998", "doi": "10.24432/C50P49",
    }),
    "aeberhard1992wine": ("misc", {
        "author": "Aeberhard, Stefan and Forina, M.", "title": "Wine",
        "howpublished": "UCI Machine Learning Repository", "year": "1992", "doi": "10.24432/C5PC7J",
    }),
    "wolberg1993breast": ("misc", {
        "author": "Wolberg, William and Mangasarian, Olvi and Street, Nick and Street, W.",
        "title": "Breast Cancer {Wisconsin} (Diagnostic)",
        "howpublished": "UCI Machine Learning Repository", "year": "1993", "doi": "10.24432/C5DW2B",
    }),
    "efron2004least": ("article", {
        "author": "Efron, Bradley and Hastie, Trevor and Johnstone, Iain and Tibshirani, Robert",
        "title": "Least Angle Regression", "journal": "The Annals of Statistics", "volume": "32", "number": "2",
        "pages": "407--499", "year": "2004", "doi": "10.1214/009053604000000067",
    }),
    "lecun1998gradient": ("article", {
        "author": "LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick",
        "title": "Gradient-Based Learning Applied to Document Recognition",
        "journal": "Proceedings of the IEEE", "volume": "86", "number": "11", "pages": "2278--2324", "year": "1998",
    }),
    "he2016deep": ("inproceedings", {
        "author": "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "title": "Deep Residual Learning for Image Recognition",
        "booktitle": "IEEE Conference on Computer Vision and Pattern Recognition", "pages": "770--778", "year": "2016",
    }),
    "xiao2017fashion": ("article", {
        "author": "Xiao, Han and Rasul, Kashif and Vollgraf, Roland",
        "title": "{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        "journal": "arXiv preprint arXiv:1708.07747", "year": "2017",
    }),
    "krizhevsky2009learning": ("techreport", {
        "author": "Krizhevsky, Alex", "title": "Learning Multiple Layers of Features from Tiny Images",
        "institution": "University of Toronto", "year": "2009",
    }),
}  # fmt: skip


def bibtex(
    experiment: Experiment, columns: Iterable[str], commits: Iterable[str] = (), versions: Iterable[str] = ()
) -> str:
    """The entries of `references`, the software first, as the text of a .bib file.

    columns: of the table `cells`. commits, versions: of the software that wrote the records. A method without an entry
    is named in a comment, so that nobody takes the list for complete.
    """
    keys, unknown = references(experiment, columns)
    parts = [_entry(SOFTWARE, "misc", software(commits, versions))]
    parts += [_entry(key, *ENTRIES[key]) for key in keys]
    if unknown:
        parts.insert(0, "% No reference is known here for: " + ", ".join(f"{kind} {value}" for kind, value in unknown))
    return "\n\n".join(parts) + "\n"


def references(experiment: Experiment, columns: Iterable[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Keys of ENTRIES for what the experiment uses, each once, and the choices that CITED does not know."""
    keys, unknown = dict.fromkeys(ALWAYS), []
    for choice in [*choices(experiment), *(("column", name) for name in columns if ("column", name) in CITED)]:
        if choice not in CITED:
            unknown.append(choice)
        keys |= dict.fromkeys(CITED.get(choice, ()))
    return list(keys), unknown


def choices(experiment: Experiment) -> list[tuple[str, str]]:
    """What the trials of the experiment are made with, as (kind, value), each once."""
    found: dict[tuple[str, str], None] = {}
    for trial in experiment.trials:
        settings = trial.settings
        found |= {("estimator", part.kind): None for part in settings.estimators}
        found |= {("protocol", part.kind): None for part in settings.protocols}
        found |= {("optimizer", settings.training.optimizer): None, ("schedule", settings.training.schedule): None}
        if settings.feature_layers:
            found["neighbours", "faiss"] = None
        if settings.gap_paths:
            found["paths", "gaps"] = None
        if settings.model.is_convolutional:
            found[("model", settings.model.kind)] = None
        if settings.model.kind == "mlp" or settings.model.is_convolutional:
            found[("activation", settings.model.activation)] = None
        if not settings.data.is_file:
            found[("data", settings.data.name)] = None
    return list(found)


def software(commits: Iterable[str] = (), versions: Iterable[str] = ()) -> dict[str, str]:
    """The fields of the software's own entry: from CITATION.cff where that is at hand, version and commit from records."""
    cited = read_citation(CITATION_FILE)
    version = ", ".join(dict.fromkeys(versions)) or study.__version__
    fields = {
        "author": cited["author"] or "{The authors of the influence-function fragility study}",
        "title": cited["title"] or "The fragility of influence functions: a certified study",
        "howpublished": f"Software, version {version}",
        "year": cited["date-released"][:4],
        "url": cited["url"] or cited["repository-code"],
        "doi": cited["doi"],
        "note": "; ".join(f"commit {commit}" for commit in commits),
    }
    return {name: value for name, value in fields.items() if value}


def read_citation(path: Path) -> dict[str, str]:
    """The few fields of a CITATION.cff that a reference needs, empty where it has none; its YAML needs no parser."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        text = ""
    fields = {
        name: _plain(match[1]) if (match := re.search(rf"^{name}:[ ]*(.+)$", text, re.MULTILINE)) else ""
        for name in ("title", "date-released", "url", "repository-code", "doi")
    }
    block = re.search(r"^authors:[ ]*\n((?:[ -].*\n?)+)", text, re.MULTILINE)
    people = re.split(r"^[ ]*-[ ]+", block[1], flags=re.MULTILINE)[1:] if block else []
    return fields | {"author": " and ".join(filter(None, map(_author, people)))}


def _author(text: str) -> str:
    fields = {name: _plain(value) for name, value in re.findall(r"^[ ]*([\w-]+):[ ]*(.+)$", text, re.MULTILINE)}
    if "family-names" in fields:
        return ", ".join(filter(None, [fields["family-names"], fields.get("given-names", "")]))
    return "{" + fields["name"] + "}" if "name" in fields else ""


def _plain(value: str) -> str:
    return value.strip().strip("\"'")


def _entry(key: str, kind: str, fields: Mapping[str, str]) -> str:
    width = max(map(len, fields))
    lines = [f"  {name.ljust(width)} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
