"""Flickr8k-Expert: three expert ratings per pair, not averaged; published with τ-c."""

from human_judgments.agreement import rating_script

main = rating_script("flickr8k_expert")

if __name__ == "__main__":
    main()
