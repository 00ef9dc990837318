package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// imageName is the directory of the image, in the OCI layout.
const imageName = "image"

// certificatesName is where Go's crypto/x509 looks for the roots that it trusts.
const certificatesName = "etc/ssl/certs/ca-certificates.crt"

// makeImage makes what deploy/Dockerfile makes, for each Linux, without a daemon: the same image of the same commit.
func (r *release) makeImage(context.Context) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range r.built {
		if b.os != "linux" {
			continue
		}
		image, err := r.imageOf(b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.target, err)
		}
		platform := &v1.Platform{OS: b.os, Architecture: b.arch}
		described := mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}}
		index = mutate.AppendManifests(index, described)
	}
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	path, err := layout.Write(filepath.Join(r.out, imageName), empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index)
}

func (r *release) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    "aadpool",
		"org.opencontainers.image.source":   "https://" + root,
		"org.opencontainers.image.version":  r.version,
		"org.opencontainers.image.revision": r.modules,
		"org.opencontainers.image.licenses": "MIT",
	}
}

func (r *release) imageOf(b binary) (v1.Image, error) {
	program, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	// The roots come first: they change less often than the program, and a layer is not pulled twice.
	layers := []file{{certificatesName, 0o644, certificates()}, {"aadpool", 0o755, program}}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, f := range layers {
		layer, err := r.layer(f)
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: v1.Time{Time: r.epoch}, CreatedBy: "COPY /" + f.name}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: history}); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = b.os, b.arch, v1.Time{Time: r.epoch}
	config.Config = v1.Config{
		User: "65532:65532", Entrypoint: []string{"/aadpool"}, Cmd: []string{"proxy"}, Labels: r.labels(),
	}
	return mutate.ConfigFile(image, config)
}

func (r *release) layer(f file) (v1.Layer, error) {
	var text bytes.Buffer
	if err := writeTar(&text, []file{f}, r.epoch); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// certificates are Mozilla's roots, of a version that go.sum holds. A root that Mozilla trusts with a constraint, which
// a file of certificates cannot say, is left out.
func certificates() []byte {
	var text bytes.Buffer
	for ca := range bundle.Roots() {
		if ca.Constraint == nil {
			text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate}))
		}
	}
	return text.Bytes()
}

// checkImage pushes the image to a registry, pulls it, and runs this machine's program from its root.
func (r *release) checkImage(ctx context.Context) error {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	index, err := r.pushAndPull(ctx, strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			return err
		}
		t := target{m.Platform.OS, m.Platform.Architecture}
		platforms = append(platforms, t.String())
		dir := filepath.Join(r.scratch, "root", t.String())
		if err := unpackRoot(image, dir); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		if t.isHere() {
			if err := r.checkVersionOf(ctx, filepath.Join(dir, "aadpool")); err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
		}
	}
	if want := []string{"linux_amd64", "linux_arm64"}; !slices.Equal(platforms, want) {
		return fmt.Errorf("the image is for %v, not %v", platforms, want)
	}
	return nil
}

// pushAndPull does to a registry what a workflow and a node of a cluster do.
func (r *release) pushAndPull(ctx context.Context, host string) (v1.ImageIndex, error) {
	index, err := r.readImage()
	if err != nil {
		return nil, err
	}
	reference, err := name.ParseReference(host + "/aadpool:" + r.version)
	if err != nil {
		return nil, err
	}
	if err := remote.WriteIndex(reference, index, remote.WithContext(ctx)); err != nil {
		return nil, err
	}
	return remote.Index(reference, remote.WithContext(ctx))
}

// readImage reads the index in the layout, which names the images.
func (r *release) readImage() (v1.ImageIndex, error) {
	path, err := layout.FromPath(filepath.Join(r.out, imageName))
	if err != nil {
		return nil, err
	}
	outer, err := path.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("the layout holds %d images, not one", len(manifest.Manifests))
	}
	return outer.ImageIndex(manifest.Manifests[0].Digest)
}

// unpackRoot unpacks an image's root, in which there may be the program and the roots that it trusts alone.
func unpackRoot(image v1.Image, dir string) error {
	content := mutate.Extract(image)
	defer content.Close()
	var names []string
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s in the image is no file", header.Name)
		}
		names = append(names, strings.TrimPrefix(header.Name, "/"))
		if err := writeUnpacked(dir, header.Name, header.FileInfo().Mode(), archive); err != nil {
			return err
		}
	}
	slices.Sort(names)
	if want := []string{"aadpool", certificatesName}; !slices.Equal(names, want) {
		return fmt.Errorf("the image's root has %v, not %v", names, want)
	}
	return nil
}
