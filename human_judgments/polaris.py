"""Polaris: ratings in [0, 1] of human and machine captions; published with τ-b and τ-c."""

from human_judgments.agreement import rating_script

main = rating_script("polaris")

if __name__ == "__main__":
    main()
