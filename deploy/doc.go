// Package deploy holds what runs aadpool proxy elsewhere: images, a chart, manifests, compose files, units for
// systemd. Its tests check them as far as that goes without a cluster and without Docker.
package deploy
