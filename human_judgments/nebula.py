"""Nebula: ratings in [0, 1] of captions that may hallucinate; published with τ-b and τ-c."""

from human_judgments.agreement import rating_script

main = rating_script("nebula")

if __name__ == "__main__":
    main()
