"""Who made the recordings that weights are trained on, and under which licence they may be used."""

from __future__ import annotations

from dataclasses import dataclass

READ = "its text lies beside the data"
KNOWN = "of the original; its text was not beside the copy that was used"


@dataclass(frozen=True)
class Credit:
    """One data set."""

    title: str
    authors: str
    reference: str  # where it is described or published
    licence: str
    seen: str = READ  # how the licence is known


CREDITS = {
    "ecg": Credit(
        "PhysioNet/Computing in Cardiology Challenge 2017, training set", "Clifford et al. 2017",
        "doi 10.22489/CinC.2017.065-469", "ODC-By 1.0", KNOWN,
    ),
    "emg": Credit(
        "Wearable sensor long-term sEMG dataset", "Suguru Kanoga et al.",
        "Suguru55/Wearable_Sensor_Long-term_sEMG_Dataset", "Apache-2.0",
    ),
    "eeg": Credit(
        "EEG during mental arithmetic tasks", "Zyma et al. 2019", "doi 10.3390/data4010014", "ODC-By 1.0", KNOWN
    ),
    "ds000210": Credit(
        "Multi-echo fMRI replication sample of autobiographical memory, prospection and theory of mind reasoning tasks",
        "Elizabeth DuPre, Wen-Ming Luh, R. Nathan Spreng", "OpenNeuro ds000210", "PDDL",
    ),
    "wise": Credit(
        "Wearable device dataset from induced stress and structured exercise sessions", "Hongn et al. 2025",
        "doi 10.1038/s41597-025-04845-9", "ODC-By 1.0",
    ),
    "exam": Credit(
        "A wearable exam stress dataset for predicting cognitive performance in real-world settings",
        "Amin, Wickramasuriya, Faghih 2022", "PhysioNet, version 1.0.0", "ODC-By 1.0",
    ),
    "nurse": Credit(
        "A multimodal sensor dataset for continuous stress detection of nurses in a hospital", "Hosseini et al. 2022",
        "doi 10.1038/s41597-022-01361-y, doi 10.5061/dryad.5hqbzkh6f", "CC0 1.0", KNOWN,
    ),
    "oximetry": Credit(
        "Smartphone camera oximetry in an induced hypoxemia study", "Hoffman et al. 2022",
        "doi 10.1038/s41746-022-00665-y", "MIT",
    ),
    "welltory": Credit(
        "Welltory PPG dataset", "Neshitov, Tyapochkin, Smorodnikova, Pravdin 2021", "doi 10.3390/s21206798", "CC0 1.0"
    ),
    "fantasia": Credit(
        "Fantasia database", "Iyengar, Peng, Morin, Goldberger, Lipsitz 1996", "PhysioNet, doi 10.13026/C2RG61",
        "ODC-By 1.0", KNOWN,
    ),
    "drivedb": Credit(
        "Stress recognition in automobile drivers", "Healey, Picard 2005", "PhysioNet, version 1.0.0", "ODC-By 1.0",
        KNOWN,
    ),
    "wrist": Credit(
        "Wrist PPG during exercise", "Jarchi, Casson 2017", "PhysioNet, version 1.0.0", "ODC-By 1.0", KNOWN
    ),
    "small-physio": Credit("Example recordings of the toolbox physio", "Samuel Garcia", "samuelgarcia/physio", "MIT"),
    "small-agenticai": Credit(
        "PPG and ECG of two people at rest, speaking, moving and cycling", "Lin, Chu, Lin 2026",
        "nq6144060/course-agenticai-ecg-hrv", "CC-BY-4.0",
    ),
    "small-vitalsqi": Credit("Test recording of vital_sqi", "OUCRU", "meta00/vital_sqi", "MIT"),
}  # fmt: skip
