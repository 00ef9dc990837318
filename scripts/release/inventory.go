package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

func (r *release) inventoryName(t target) string {
	return "aadpool_" + r.number() + "_" + t.String() + ".cdx.json"
}

// inventory is the binary's software bill of materials, in CycloneDX: the modules that the binary itself says are in
// it, and Go's standard library, which scanners know as the package stdlib.
func (r *release) inventory(b binary) ([]byte, error) {
	bom := cyclonedx.NewBOM()
	main := component(b.info.Main.Path, b.info.Main.Version, "")
	main.Type = cyclonedx.ComponentTypeApplication
	bom.Metadata = &cyclonedx.Metadata{Timestamp: r.epoch.Format(time.RFC3339), Component: &main}
	components := []cyclonedx.Component{component("stdlib", "v"+strings.TrimPrefix(b.info.GoVersion, "go"), "")}
	var references []string
	for _, dep := range b.info.Deps {
		if dep.Replace != nil {
			return nil, fmt.Errorf("%s: %s is replaced by %s", b.target, dep.Path, dep.Replace.Path)
		}
		components = append(components, component(dep.Path, dep.Version, dep.Sum))
	}
	for _, c := range components {
		references = append(references, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &references}}
	var out bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// component is a module; sum is that of go.sum, or empty.
func component(path, version, sum string) cyclonedx.Component {
	url := "pkg:golang/" + path + "@" + version
	c := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeLibrary, BOMRef: url, PackageURL: url, Name: path, Version: version,
	}
	// h1 is a SHA-256 of the list of a module's files and their sums: https://go.dev/ref/mod#go-sum-files.
	if encoded, ok := strings.CutPrefix(sum, "h1:"); ok {
		if digest, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(digest)}}
		}
	}
	return c
}

// checkInventories checks each against the binary in the archive, and the binary's modules against go.sum.
func (r *release) checkInventories(context.Context) error {
	sums, err := os.ReadFile(filepath.Join(r.src, "cmd", "aadpool", "go.sum"))
	if err != nil {
		return err
	}
	for _, b := range r.built {
		text, err := os.ReadFile(filepath.Join(r.out, r.inventoryName(b.target)))
		if err != nil {
			return err
		}
		info, err := buildinfo.ReadFile(filepath.Join(r.unpacked(b.target), b.program()))
		if err != nil {
			return err
		}
		if err := checkInventory(text, info, string(sums)); err != nil {
			return fmt.Errorf("%s: %w", b.target, err)
		}
	}
	return nil
}

func checkInventory(text []byte, info *buildinfo.BuildInfo, sums string) error {
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(text), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return err
	}
	var listed, built []string
	for _, c := range *bom.Components {
		if c.Name != "stdlib" {
			listed = append(listed, c.Name+" "+c.Version)
		}
	}
	for _, dep := range info.Deps {
		built = append(built, dep.Path+" "+dep.Version)
		if !strings.Contains("\n"+sums, "\n"+dep.Path+" "+dep.Version+" "+dep.Sum+"\n") {
			return fmt.Errorf("%s %s %s is not in go.sum", dep.Path, dep.Version, dep.Sum)
		}
	}
	slices.Sort(listed)
	slices.Sort(built)
	if !slices.Equal(listed, built) {
		return fmt.Errorf("the list has the modules %v, the binary %v", listed, built)
	}
	return nil
}
