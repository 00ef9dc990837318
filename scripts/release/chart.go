package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

// chartDir is where the chart is in the repository.
const chartDir = "deploy/helm/aadpool"

// chartName is the file that helm package would make.
func (r *release) chartName() string { return "aadpool-" + r.number() + ".tgz" }

// packChart writes the chart, whose version and image are the release's. Unlike helm package it makes the same bytes
// each time.
func (r *release) packChart() error {
	files, err := r.chartFiles(filepath.Join(r.src, filepath.FromSlash(chartDir)))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := firstError(writeTar(compressed, files, r.epoch), compressed.Close()); err != nil {
		return err
	}
	return r.write(r.chartName(), out.Bytes())
}

// chartFiles are those of a chart, without the hidden ones, in the order of their names.
func (r *release) chartFiles(dir string) (files []file, err error) {
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if below == "Chart.yaml" {
			if text, err = r.versioned(text); err != nil {
				return err
			}
		}
		files = append(files, file{path.Join("aadpool", filepath.ToSlash(below)), 0o644, text})
		return nil
	})
	return files, err
}

var chartVersions = regexp.MustCompile(`(?m)^(version|appVersion): \S+$`)

// versioned puts the release's version into Chart.yaml.
func (r *release) versioned(text []byte) ([]byte, error) {
	if found := len(chartVersions.FindAll(text, -1)); found != 2 {
		return nil, fmt.Errorf("the file Chart.yaml has %d lines with version or appVersion, not one of each", found)
	}
	return chartVersions.ReplaceAll(text, []byte("${1}: "+r.number())), nil
}

// chartValues are the least that the chart takes.
const chartValues = "upstreams[0].name=orders,upstreams[0].dsn=host=orders," +
	"deployment.tlsSecret=a,deployment.passwordSecret=b"

// digestLine is by what the workflow knows what it signs.
var digestLine = regexp.MustCompile("(?m)^Digest: sha256:[0-9a-f]{64}$")

// checkChart does to a registry what the workflow and a user of the chart do.
func (r *release) checkChart(ctx context.Context) error {
	helm, err := output(ctx, filepath.Join(r.repository, "deploy"), nil, "go", "tool", "-n", "helm")
	if err != nil {
		return err
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	charts := "oci://" + strings.TrimPrefix(server.URL, "http://") + "/charts"
	dir := filepath.Join(r.scratch, "charts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	packed, pulled := filepath.Join(r.out, r.chartName()), filepath.Join(dir, r.chartName())
	said, err := exec.CommandContext(ctx, helm, "push", packed, charts, "--plain-http").CombinedOutput()
	if err != nil {
		return fmt.Errorf("helm push: %w: %s", err, said)
	}
	if !digestLine.Match(said) {
		return fmt.Errorf("helm push names no digest: %s", said)
	}
	for _, args := range [][]string{
		{"lint", packed, "--strict", "--set", chartValues},
		{"pull", charts + "/aadpool", "--version", r.number(), "--plain-http", "--destination", dir},
	} {
		if _, err := output(ctx, dir, nil, helm, args...); err != nil {
			return err
		}
	}
	if err := sameContent(packed, pulled); err != nil {
		return err
	}
	made, err := output(ctx, dir, nil, helm, "template", pulled, "--kube-version", "1.29.0", "--set", chartValues)
	if err != nil {
		return err
	}
	if image := "image: ghcr.io/aadpool/aadpool:" + r.number() + "\n"; !strings.Contains(made, image) {
		return fmt.Errorf("the chart has not the release's %s", image)
	}
	return nil
}
