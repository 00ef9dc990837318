package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"text/tabwriter"
)

// unpacked is where the checks unpack a target's archive.
func (r *release) unpacked(t target) string { return filepath.Join(r.scratch, "unpacked", t.String()) }

// checkArchives does what people do with an archive: compares its checksum, unpacks it, and runs the program.
func (r *release) checkArchives(ctx context.Context) error {
	sums, err := os.ReadFile(filepath.Join(r.out, checksumsName))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		text, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		if sum != fmt.Sprintf("%x", sha256.Sum256(text)) {
			return fmt.Errorf("%s is not what %s says", name, checksumsName)
		}
	}
	for _, b := range r.built {
		dir := r.unpacked(b.target)
		if err := unpack(filepath.Join(r.out, r.archiveName(b.target)), dir); err != nil {
			return fmt.Errorf("%s: %w", b.target, err)
		}
		if err := sameContent(b.path, filepath.Join(dir, b.program())); err != nil {
			return fmt.Errorf("%s: %w", b.target, err)
		}
		if b.isHere() {
			if err := r.checkVersionOf(ctx, filepath.Join(dir, b.program())); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkVersionOf runs a program with nothing around it, and compares what it says of itself.
func (r *release) checkVersionOf(ctx context.Context, program string) error {
	said, err := output(ctx, filepath.Dir(program), []string{}, program, "version")
	if err != nil {
		return err
	}
	want := fmt.Sprintf("aadpool %s (commit %s of %s), ", r.version, r.modules[:12], r.epoch.Format("2006-01-02"))
	if !strings.HasPrefix(said, want) {
		return fmt.Errorf("aadpool version says %q, not %q", said, want)
	}
	return nil
}

func unpack(archive, dir string) error {
	text, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	if strings.HasSuffix(archive, ".zip") {
		return unpackZip(text, dir)
	}
	content, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		return err
	}
	files := tar.NewReader(content)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := writeUnpacked(dir, header.Name, header.FileInfo().Mode(), files); err != nil {
			return err
		}
	}
}

func unpackZip(text []byte, dir string) error {
	files, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return err
	}
	for _, f := range files.File {
		content, err := f.Open()
		if err != nil {
			return err
		}
		if err := firstError(writeUnpacked(dir, f.Name, f.Mode(), content), content.Close()); err != nil {
			return err
		}
	}
	return nil
}

// writeUnpacked writes a file of an archive below dir.
func writeUnpacked(dir, name string, mode fs.FileMode, content io.Reader) error {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("%s is outside the archive", name)
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, mode.Perm())
}

// goGet matches a line of a page that gets modules.
var goGet = regexp.MustCompile(`(?m)^go get (.+?)(?:\s+#.*)?$`)

// goGetLines are the arguments of each line of the pages that gets one of the project's modules, as it is once the
// version is there: v0.0.0 stands for a clone.
func goGetLines(pages ...string) (lines [][]string) {
	for _, page := range pages {
		for _, found := range goGet.FindAllStringSubmatch(page, -1) {
			if strings.Contains(found[1], root) {
				lines = append(lines, strings.Fields(strings.ReplaceAll(found[1], "@v0.0.0", "")))
			}
		}
	}
	return lines
}

// outsideProgram uses each of the modules for programs.
const outsideProgram = `package main

import (
	"context"
	"log"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool"
	_ "github.com/aadpool/aadpool/aadpoolsql"
	_ "github.com/aadpool/aadpool/otelaadpool"
)

func main() {
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := aadpool.New(context.Background(), os.Getenv("DATABASE_URL"), cred)
	if err != nil {
		log.Fatal(err)
	}
	pool.Close()
}
`

// checkOutside does in a module of its own what the pages tell people to do, and installs the command.
func (r *release) checkOutside(ctx context.Context) error {
	dir := filepath.Join(r.scratch, "your-service")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := r.golang(ctx, dir, "mod", "init", "example.com/your-service"); err != nil {
		return err
	}
	pages, err := r.pages()
	if err != nil {
		return err
	}
	lines := append(goGetLines(pages...), []string{root + "/otelaadpool"})
	for _, args := range lines {
		if _, err := r.golang(ctx, dir, append([]string{"get"}, args...)...); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(outsideProgram), 0o644); err != nil {
		return err
	}
	program := filepath.Join(r.scratch, "your-service.bin")
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-trimpath", "-o", program, "."}} {
		if _, err := r.golang(ctx, dir, args...); err != nil {
			return err
		}
	}
	if err := r.checkRequires(ctx, dir); err != nil {
		return err
	}
	return r.checkInstall(ctx)
}

// pages are the texts of README.md and docs.
func (r *release) pages() (pages []string, err error) {
	names, err := filepath.Glob(filepath.Join(r.src, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	for _, name := range append([]string{filepath.Join(r.src, "README.md")}, names...) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		pages = append(pages, string(text))
	}
	return pages, nil
}

// checkRequires checks that the module outside has the release's version of each module, from the proxy.
func (r *release) checkRequires(ctx context.Context, dir string) error {
	for _, module := range []string{root, root + "/aadpoolsql", root + "/otelaadpool"} {
		said, err := r.golang(ctx, dir, "list", "-m", module)
		if err != nil {
			return err
		}
		if want := module + " " + r.version; said != want {
			return fmt.Errorf("a module outside has %s, not %s", said, want)
		}
	}
	return nil
}

// checkInstall installs the command as CONTRIBUTING.md has a person do after a release.
func (r *release) checkInstall(ctx context.Context) error {
	bin := filepath.Join(r.scratch, "gobin")
	env := append(r.env[:len(r.env):len(r.env)], "GOBIN="+bin)
	_, err := output(ctx, r.scratch, env, "go", "install", "-trimpath", "-ldflags=-s", root+"/cmd/aadpool@"+r.version)
	if err != nil {
		return err
	}
	said, err := output(ctx, r.scratch, []string{}, filepath.Join(bin, target{os: runtime.GOOS}.program()), "version")
	if err != nil {
		return err
	}
	if want := "aadpool " + r.version + ", "; !strings.HasPrefix(said, want) {
		return fmt.Errorf("the command that go install makes says %q, not %q", said, want)
	}
	return nil
}

// list prints what has been made, and what of.
func (r *release) list(w io.Writer) error {
	kind := "the tag " + r.version
	if r.dryRun {
		kind = "a dry run of " + r.version
	}
	fmt.Fprintf(w, "%s: commit %s; the modules' %s\n", kind, r.commit, r.modules)
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	err := filepath.WalkDir(r.out, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == marker {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.out, path)
		fmt.Fprintf(table, "%d\t  %s\n", info.Size(), filepath.ToSlash(name))
		return err
	})
	return firstError(err, table.Flush())
}
