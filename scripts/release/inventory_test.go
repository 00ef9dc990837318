package main

import (
	"debug/buildinfo"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	sumOfA = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	goSum  = "example.com/a v1.0.0 " + sumOfA + "\nexample.com/a v1.0.0/go.mod h1:x=\n"
)

func buildInfo(deps ...*debug.Module) *buildinfo.BuildInfo {
	return &buildinfo.BuildInfo{
		GoVersion: "go1.26.0", Main: debug.Module{Path: root + "/cmd/aadpool", Version: "v0.1.0"}, Deps: deps,
	}
}

func TestInventoryNamesTheBinarysModules(t *testing.T) {
	r := &release{options: options{version: "v0.1.0"}, epoch: epoch}
	a := &debug.Module{Path: "example.com/a", Version: "v1.0.0", Sum: sumOfA}
	text, err := r.inventory(binary{info: buildInfo(a)})
	require.NoError(t, err)
	assert.Contains(t, string(text), `"purl": "pkg:golang/example.com/a@v1.0.0"`)
	assert.Contains(t, string(text), `"content": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`,
		"go.sum's, as scanners write it")
	assert.Contains(t, string(text), `"purl": "pkg:golang/stdlib@v1.26.0"`)
	require.NoError(t, checkInventory(text, buildInfo(a), goSum))

	for _, row := range []struct {
		name  string
		built *buildinfo.BuildInfo
		want  string
	}{
		{"another version", buildInfo(&debug.Module{Path: "example.com/a", Version: "v1.0.1", Sum: sumOfA}), "not in go.sum"},
		{"another content",
			buildInfo(&debug.Module{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:other="}), "not in go.sum"},
		{"a module more than listed", buildInfo(a, a), "the list has"},
		{"a module less", buildInfo(), "the list has"},
	} {
		t.Run(row.name, func(t *testing.T) { assert.ErrorContains(t, checkInventory(text, row.built, goSum), row.want) })
	}

	_, err = r.inventory(binary{
		info: buildInfo(&debug.Module{Path: "example.com/a", Replace: &debug.Module{Path: "../a"}})})
	assert.ErrorContains(t, err, "is replaced", "what a directory holds is in no list")
}
