"""Flickr8k-CF: share of crowd workers who say that a caption describes an image; published with τ-b."""

from human_judgments.agreement import rating_script

main = rating_script("flickr8k_cf")

if __name__ == "__main__":
    main()
