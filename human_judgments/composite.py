"""Composite: correctness from 1 to 5 of captions of Flickr8k, Flickr30k and COCO; published with τ-c."""

from human_judgments.agreement import rating_script

main = rating_script("composite")

if __name__ == "__main__":
    main()
