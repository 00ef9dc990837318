// Package deploy holds what runs aadpool proxy elsewhere: an image, manifests for Kubernetes, a unit for systemd. Its
// tests check them as far as that goes without a cluster.
package deploy
