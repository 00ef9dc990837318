package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestVersionsThatModulesCanHave(t *testing.T) {
	for version, problem := range map[string]string{
		"v0.1.0": "", "v1.2.3-rc.1": "",
		"0.1.0": "no version", "v1.2": "no version", "v1.2.3+build": "no version", "latest": "no version", "": "no version",
		"v2.0.0": "major version", "--upload-pack=x": "no version",
	} {
		t.Run(version, func(t *testing.T) {
			err := checkVersion(version)
			if problem == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, problem)
		})
	}
}

// A module that is neither released nor named as our own would be forgotten.
func TestEveryNestedModuleIsReleasedOrNot(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files", "*/go.mod").Output()
	require.NoError(t, err)
	var modules []string
	for name := range strings.FieldsSeq(string(out)) {
		modules = append(modules, filepath.ToSlash(filepath.Dir(name)))
	}
	assert.ElementsMatch(t, modules, slices.Concat(released, unreleased))
	earlier := []string{root}
	for _, dir := range released {
		text, err := os.ReadFile(filepath.Join("../..", dir, "go.mod"))
		require.NoError(t, err)
		for _, replaced := range regexp.MustCompile(`(?m)^replace (\S+)`).FindAllStringSubmatch(string(text), -1) {
			assert.Contains(t, earlier, replaced[1], "%s: only what is released before it is taken out of a release", dir)
		}
		earlier = append(earlier, root+"/"+dir)
	}
}

// The release tags in a clone: nothing of it may show in the repository, nor in the caller's module cache.
func TestTagsAreTheSameEachTime(t *testing.T) {
	repository := smallRepository(t)
	var commits []string
	for range 2 {
		r, err := tagged(t, options{version: "v0.1.0", repository: repository})
		require.NoError(t, err)
		assert.True(t, r.dryRun)
		commits = append(commits, r.modules)
		for _, dir := range released {
			mod, err := os.ReadFile(filepath.Join(r.src, dir, "go.mod"))
			require.NoError(t, err)
			assert.NotContains(t, string(mod), "replace")
			assert.Contains(t, string(mod), root+" v0.1.0")
			sum, err := os.ReadFile(filepath.Join(r.src, dir, "go.sum"))
			require.NoError(t, err)
			assert.Contains(t, string(sum), root+" v0.1.0 h1:")
			assert.FileExists(t, filepath.Join(r.proxy, root, dir, "@v", "v0.1.0.zip"))
		}
		sum, err := os.ReadFile(filepath.Join(r.src, "cmd/aadpool/go.sum"))
		require.NoError(t, err)
		assert.Contains(t, string(sum), root+"/otelaadpool v0.1.0 h1:")
	}
	assert.Equal(t, commits[0], commits[1])
	assert.Empty(t, git(t, repository, "tag"))

	_, err := tagged(t, options{version: "v0.1.0", repository: repository, tag: true})
	require.ErrorContains(t, err, "there is no tag v0.1.0", "a dry run's tags stay in its clone")

	identity := []string{"-c", "user.name=a", "-c", "user.email=a@example.com",
		"-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false"}
	git(t, repository, append(identity, "tag", "--annotate", "v0.1.0", "--message", "first")...)
	git(t, repository, append(identity, "commit", "--quiet", "--allow-empty", "--message", "after the tag")...)
	r, err := tagged(t, options{version: "v0.1.0", repository: repository, tag: true})
	require.NoError(t, err)
	assert.False(t, r.dryRun)
	assert.Equal(t, commits[0], r.modules, "a dry run of the commit has made the same")
	require.NoError(t, r.fetchTags(t.Context()))
	for _, dir := range released {
		assert.Equal(t, r.modules+"\n", git(t, repository, "rev-parse", dir+"/v0.1.0^{commit}"))
	}
}

// tagged is a release whose modules are tagged.
func tagged(t *testing.T, o options) (*release, error) {
	o.out = filepath.Join(t.TempDir(), "out")
	r, err := newRelease(t.Context(), o, t.TempDir())
	require.NoError(t, err)
	if err := r.cloneAndTag(t.Context()); err != nil {
		return nil, err
	}
	return r, r.tagModules(t.Context())
}

// smallRepository has the modules of the project's, with a line of code each.
func smallRepository(t *testing.T) string {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	write("go.mod", "module "+root+"\n\ngo 1.26.0\n")
	write("pool.go", "package aadpool\n")
	write("LICENSE", "MIT\n")
	other := root + "/otelaadpool"
	uses := map[string]struct{ mod, program string }{"cmd/aadpool": { // one that requires another
		"\nreplace " + other + " => ../../otelaadpool\n\nrequire " + other + " v0.0.0\n", "\nimport _ \"" + other + "\"\n"}}
	for _, module := range released {
		up := strings.Repeat("../", strings.Count(module, "/")+1)
		write(module+"/go.mod", "module "+root+"/"+module+"\n\ngo 1.26.0\n\n"+
			"replace "+root+" => "+up+"\n\nrequire "+root+" v0.0.0\n"+uses[module].mod)
		write(module+"/use.go", "package use\n\nimport _ \""+root+"\"\n"+uses[module].program)
	}
	git(t, dir, "init", "--quiet")
	git(t, dir, "add", "--all")
	git(t, dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgSign=false",
		"commit", "--quiet", "--message", "first")
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func TestOutputOfAnotherIsNotEmptied(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, emptyDirectory(dir), "an empty one will do")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), nil, 0o644))
	require.NoError(t, emptyDirectory(dir), "this program made it")
	assert.NoFileExists(t, filepath.Join(dir, "old"))

	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis"), nil, 0o644))
	assert.ErrorContains(t, emptyDirectory(dir), "is not empty")
	assert.FileExists(t, filepath.Join(dir, "thesis"))
}

func TestNotesAreTheVersionsSection(t *testing.T) {
	const changelog = "# Changelog\n\n## Unreleased\n\n- soon\n\n" +
		"## v0.2.0 (2026-12-01)\n\n### Added\n\n- a pool\n\n## v0.1.0\n\n- first\n"
	for version, want := range map[string]string{
		"Unreleased": "- soon\n", "v0.2.0": "### Added\n\n- a pool\n", "v0.1.0": "- first\n",
	} {
		notes, err := cutNotes(changelog, version)
		require.NoError(t, err)
		assert.Equal(t, want, notes)
	}
	for _, version := range []string{"v0.2", "v0.3.0"} {
		_, err := cutNotes(changelog, version)
		assert.ErrorContains(t, err, `name its section "## `+version+`"`)
	}
}

func TestArchivesUnpackToWhatWasPacked(t *testing.T) {
	files := []file{{"aadpool", 0o755, []byte("program")}, {"man/aadpool.1", 0o644, []byte("page")}}
	for _, system := range []target{{"linux", "amd64"}, {"windows", "amd64"}} {
		t.Run(system.os, func(t *testing.T) {
			r := &release{options: options{version: "v0.1.0", out: t.TempDir()}}
			text, err := pack(system, files, epoch)
			require.NoError(t, err)
			again, err := pack(system, files, epoch)
			require.NoError(t, err)
			assert.Equal(t, text, again, "the same bytes each time")
			require.NoError(t, r.write(r.archiveName(system), text))
			dir := t.TempDir()
			require.NoError(t, unpack(filepath.Join(r.out, r.archiveName(system)), dir))
			for _, f := range files {
				path := filepath.Join(dir, f.name)
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				assert.Equal(t, f.text, content)
				info, err := os.Stat(path)
				require.NoError(t, err)
				assert.Equal(t, os.FileMode(f.mode), info.Mode())
			}
		})
	}
}

func TestArchivesDoNotWriteOutside(t *testing.T) {
	for _, name := range []string{"../aadpool", "/etc/passwd", "a/../../b", ""} {
		assert.Error(t, writeUnpacked(t.TempDir(), name, 0o644, strings.NewReader("")), name)
	}
}

// The image that a workflow makes is the one that the Dockerfile makes.
func TestImageIsTheDockerfiles(t *testing.T) {
	text, err := os.ReadFile("../../deploy/Dockerfile")
	require.NoError(t, err)
	dir := t.TempDir()
	program := filepath.Join(dir, "aadpool")
	require.NoError(t, os.WriteFile(program, []byte("program"), 0o755))
	r := &release{options: options{version: "v0.1.0"}, epoch: epoch}
	image, err := r.imageOf(binary{target: target{"linux", "arm64"}, path: program})
	require.NoError(t, err)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	assert.Equal(t, "arm64", config.Architecture)
	for _, row := range []struct{ instruction, want string }{
		{"USER", config.Config.User},
		{"ENTRYPOINT", asJSON(t, config.Config.Entrypoint)},
		{"CMD", asJSON(t, config.Config.Cmd)},
	} {
		assert.Contains(t, string(text), "\n"+row.instruction+" "+row.want+"\n")
	}
	build := regexp.MustCompile(`(?m)^RUN cd cmd/aadpool && CGO_ENABLED=0 go build -trimpath -ldflags=-s -o `)
	assert.Regexp(t, build, string(text), "build does the same")
	require.NoError(t, unpackRoot(image, filepath.Join(dir, "root")))

	again, err := r.imageOf(binary{target: target{"linux", "arm64"}, path: program})
	require.NoError(t, err)
	first, err := image.Digest()
	require.NoError(t, err)
	second, err := again.Digest()
	require.NoError(t, err)
	assert.Equal(t, first, second, "the same image each time")
}

func asJSON(t *testing.T, v any) string {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

func TestImageWithAnythingElseIsRefused(t *testing.T) {
	r := &release{epoch: epoch}
	layer, err := r.layer(file{"bin/sh", 0o755, []byte("shell")})
	require.NoError(t, err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	assert.ErrorContains(t, unpackRoot(image, t.TempDir()), "bin/sh")
}

func TestRootsAreThoseThatAFileCanSay(t *testing.T) {
	text := string(certificates())
	assert.Greater(t, strings.Count(text, "BEGIN CERTIFICATE"), 80)
}

func TestChecksumsAndDescriptionsAreThoseOfTheArchives(t *testing.T) {
	r := &release{options: options{version: "v0.1.0-rc.1", out: t.TempDir()}, modules: "0123abc"}
	for _, system := range targets {
		require.NoError(t, r.write(r.archiveName(system), []byte(system.String())))
		require.NoError(t, r.write(r.inventoryName(system), []byte("{}")))
	}
	require.NoError(t, r.write(r.chartName(), []byte("chart")))
	require.NoError(t, r.writeChecksums())
	require.NoError(t, r.writeDescriptions(t.Context()))

	text, err := os.ReadFile(filepath.Join(r.out, "aadpool.json"))
	require.NoError(t, err)
	var scoop struct {
		Version      string
		Architecture map[string]struct{ URL, Hash string }
	}
	require.NoError(t, json.Unmarshal(text, &scoop))
	assert.Equal(t, "0.1.0-rc.1", scoop.Version)
	formula, err := os.ReadFile(filepath.Join(r.out, "aadpool.rb"))
	require.NoError(t, err)
	assert.Contains(t, string(formula), `tag: "cmd/aadpool/v0.1.0-rc.1", revision: "0123abc"`)
	sums, err := os.ReadFile(filepath.Join(r.out, checksumsName))
	require.NoError(t, err)
	const downloads = "https://github.com/aadpool/aadpool/releases/download/v0.1.0-rc.1/"
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		switch {
		case strings.Contains(name, "linux") && strings.HasSuffix(name, ".tar.gz"):
			assert.Contains(t, string(formula), `url "`+downloads+name+"\"\n      sha256 \""+sum+`"`)
		case strings.HasSuffix(name, "windows_amd64.zip"):
			assert.Equal(t, downloads+name, scoop.Architecture["64bit"].URL)
			assert.Equal(t, sum, scoop.Architecture["64bit"].Hash)
		case strings.HasSuffix(name, "windows_arm64.zip"):
			assert.Equal(t, sum, scoop.Architecture["arm64"].Hash)
		}
	}
}

func TestPagesLinesAreAsTheyWillBe(t *testing.T) {
	lines := goGetLines(
		"```sh\ngo get github.com/aadpool/aadpool@v0.0.0 example.com/x   # both\n```\n", "go get example.com/other\n")
	assert.Equal(t, [][]string{{root, "example.com/x"}}, lines)
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	assert.NotEmpty(t, goGetLines(string(text)), "README.md says how to get the package")
}

func TestLicensesOfAModuleGoWithTheProgram(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"LICENSE.txt", "NOTICE", "PATENTS", "license_test.go", "README.md", "copying.go"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("words of "+name), 0o644))
	}
	var text bytes.Buffer
	require.NoError(t, addLicenses(&text, "example.com/a v1.0.0", dir))
	for name, there := range map[string]bool{
		"LICENSE.txt": true, "NOTICE": true, "PATENTS": true, "license_test.go": false,
		"README.md": false, "copying.go": false,
	} {
		assert.Equal(t, there, strings.Contains(text.String(), "words of "+name), name)
	}
	assert.ErrorContains(t, addLicenses(&text, "example.com/b v1.0.0", t.TempDir()), "example.com/b v1.0.0: no file of it")
}

// A tag of an action can be moved to another commit.
func TestWorkflowsActionsArePinned(t *testing.T) {
	files, err := filepath.Glob("../../.github/workflows/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, found := range uses.FindAllStringSubmatch(string(text), -1) {
			assert.Regexp(t, `^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`, found[1], name)
		}
	}
}

// The stand-ins' images are of the PostgreSQLs that the tests run on, and have the name that the examples pull.
func TestStandInsImagesAreThoseThatTheExamplesPull(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile("../../" + name)
		require.NoError(t, err)
		return string(text)
	}
	workflow := read(".github/workflows/release.yml")
	tested := regexp.MustCompile(`postgresql: \[(.*)\]`).FindStringSubmatch(read(".github/workflows/ci.yml"))
	require.NotNil(t, tested)
	versions := strings.Split(tested[1], ", ")
	assert.Contains(t, workflow, "for postgres in "+strings.Join(versions, " ")+"; do")
	assert.Contains(t, workflow, `if [ "$postgres" = `+versions[len(versions)-1]+" ]; then")
	assert.Contains(t, read("deploy/standins/Dockerfile"), "ARG POSTGRES="+versions[len(versions)-1]+"\n")
	assert.Contains(t, workflow, "IMAGE: ghcr.io/${{ github.repository }}\n")
	image := "ghcr.io/" + strings.TrimPrefix(root, "github.com/") + "-standins"
	for _, name := range []string{"docs/standins.md", "examples/standins/standins.go",
		"examples/standins/java/OrdersTest.java", "examples/standins/dotnet/OrdersTest.cs",
		"examples/standins/python/test_orders.py", "examples/standins/node/orders.test.js"} {
		assert.Contains(t, read(name), image, name)
	}
}

func TestWorkflowPublishesWhatIsMade(t *testing.T) {
	text, err := os.ReadFile("../../.github/workflows/release.yml")
	require.NoError(t, err)
	made := []string{checksumsName, tagsName, imageName, notesName, "aadpool_*", "aadpool-*.tgz"}
	for _, name := range append(made, descriptions...) {
		assert.Regexp(t, `dist/`+regexp.QuoteMeta(name)+`(\s|$)`, string(text))
	}
	tags := strings.Index(string(text), "git push origin")
	for _, step := range []string{
		"crane push", `"$helm" push`, "cosign sign ", "cosign sign-blob", "attest-build-provenance@",
	} {
		at := strings.Index(string(text), step)
		require.Positive(t, at, step)
		assert.Less(t, at, tags, "%s: what can fail comes before what cannot be taken back", step)
	}
}

func TestTwoBuildsThatDifferAreTold(t *testing.T) {
	dir := t.TempDir()
	path := func(text string) string {
		name := filepath.Join(dir, text)
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
		return name
	}
	require.NoError(t, sameContent(path("same"), path("same")))
	assert.ErrorContains(t, sameContent(path("some"), path("sane")), "differ from byte 1 of 4 on")
	assert.ErrorContains(t, sameContent(path("same"), path("longer")), "4 and 6 bytes")
}
