"""Polaris' validation part, as EXPERT's release has it; not the test split of the published figures."""

from human_judgments.agreement import rating_script

main = rating_script("polaris_val")

if __name__ == "__main__":
    main()
