package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Progress tells how far a preparation is. Pass 1 reads and compares all
// documents, pass 2 reads those that stay once more and packs them.
type Progress struct {
	Step      int64 `json:"step"` // documents read in both passes
	Pass      int64 `json:"pass"`
	Documents int64 `json:"documents"` // read in this pass
	Bytes     int64 `json:"bytes"`     // of cleaned text, in this pass
}

// progressEvery is the number of documents between two calls of progress.
const progressEvery = 250

// Prepare makes a version of the files below src. It writes the shards and then
// version.json into out, which must be empty and is empty again after an error;
// the version's Dataset is left open, for whoever knows the name. The spec is
// one that package spec has checked and completed. Counts.Bytes is the cleaned
// size of all documents that stay. progress is called now and then, from this
// goroutine.
func Prepare(ctx context.Context, spec v1.DatasetSpec, src fs.FS, out *os.Root, progress func(Progress)) (version v1.DatasetVersionSpec, err error) {
	if err := check(spec.Prepare); err != nil {
		return version, err
	}
	if err := empty(out); err != nil {
		return version, err
	}
	paths, err := collect(ctx, src, spec.Source)
	if err != nil {
		return version, err
	}
	p := &preparation{
		recipe: spec.Prepare, format: formats[spec.Prepare.Format], paths: paths, progress: progress,
		reader:  reader{src: src, min: spec.Prepare.MinBytes, max: spec.Prepare.MaxBytes},
		digests: make([][sha256.Size]byte, len(paths)), drops: make([]string, len(paths)),
	}
	if err := p.survey(ctx); err != nil {
		return version, err
	}
	version = v1.DatasetVersionSpec{Counts: p.counts(), Recipe: recipe(spec), Format: spec.Prepare.Format}
	if version.Counts.Out == 0 {
		return version, none(spec.Source, version.Counts)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(out))
		}
	}()
	if version.Splits, version.Counts.Bytes, err = p.pack(ctx, out); err != nil {
		return version, err
	}
	version.Digest = Digest(version)
	return version, writeManifest(out, version)
}

// check refuses a recipe that package spec has not completed.
func check(p v1.Prepare) error {
	_, known := formats[p.Format]
	sum, least := 0, 100
	for _, share := range p.Split {
		sum, least = sum+share, min(least, share)
	}
	var problem string
	switch {
	case !known:
		problem = fmt.Sprintf("format is %.40q", p.Format)
	case (p.Tokeniser == "bytes") != (p.Format == "tokens-u16"):
		problem = fmt.Sprintf("tokeniser %.40q doesn't go with the format %s", p.Tokeniser, p.Format)
	case p.Deduplicate != "none" && p.Deduplicate != "exact" && p.Deduplicate != "near":
		problem = fmt.Sprintf("deduplicate is %.40q", p.Deduplicate)
	case sum != 100 || least < 1:
		problem = fmt.Sprintf("the shares of split are %v, not hundredths that sum to 100", p.Split)
	case p.ShardBytes < 1<<10 || p.ShardBytes > maxSize:
		problem = fmt.Sprintf("shardBytes is %d", p.ShardBytes)
	case p.MaxBytes > maxDocument:
		problem = fmt.Sprintf("maxBytes is %d; a document may have %d at most", p.MaxBytes, maxDocument)
	default:
		return nil
	}
	return &penstock.Error{Code: penstock.Invalid, Where: "spec.prepare", Msg: problem, Hint: "apply the dataset's manifest; it tells what is allowed and fills in the rest"}
}

func empty(out *os.Root) error {
	entries, err := fs.ReadDir(out.FS(), ".")
	if err != nil {
		return fmt.Errorf("list output folder: %w", err)
	}
	if len(entries) > 0 {
		return &penstock.Error{Code: penstock.Exists, Where: out.Name(), Msg: fmt.Sprintf("the output folder is not empty: there is %s", entries[0].Name()), Hint: "a version is written into a folder of its own"}
	}
	return nil
}

func discard(out *os.Root) error {
	entries, err := fs.ReadDir(out.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, out.RemoveAll(e.Name()))
	}
	return err
}

func writeManifest(out *os.Root, version v1.DatasetVersionSpec) error {
	text, err := json.MarshalIndent(version, "", "  ")
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	f, err := out.OpenFile(Manifest+temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return unwritable(Manifest, err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = out.Rename(Manifest+temporary, Manifest)
	}
	if err != nil {
		return unwritable(Manifest, err)
	}
	dir, err := out.Open(".")
	if err != nil {
		return unwritable(Manifest, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return unwritable(Manifest, err)
	}
	return nil
}

// preparation is the state between the two passes: for each path, the digest of
// its cleaned text, or why it is dropped.
type preparation struct {
	recipe   v1.Prepare
	format   format
	paths    []string
	reader   reader
	packed   bytes.Buffer
	digests  [][sha256.Size]byte
	drops    []string
	told     Progress
	progress func(Progress)
}

// survey decides about every document.
func (p *preparation) survey(ctx context.Context) error {
	seen := map[[sha256.Size]byte]bool{}
	near := newCluster(0)
	if p.recipe.Deduplicate == "near" {
		near = newCluster(len(p.paths))
	}
	p.told.Pass = 1
	for i, name := range p.paths {
		if ctx.Err() != nil {
			return canceled(ctx)
		}
		text, drop := p.reader.read(name)
		p.tell(len(text))
		if drop == "" && !p.fits(name, text) {
			drop = "too_large"
		}
		if p.drops[i] = drop; drop != "" {
			continue
		}
		p.digests[i] = sha256.Sum256(text)
		if p.recipe.Deduplicate == "none" {
			continue
		}
		if seen[p.digests[i]] {
			p.drops[i] = "duplicate"
			continue
		}
		seen[p.digests[i]] = true
		if p.recipe.Deduplicate == "near" {
			near.place(i, text)
		}
	}
	// Only now: a later document may join two clusters.
	for i := range near.parent {
		if p.drops[i] == "" && near.root(i) != i {
			p.drops[i] = "near_duplicate"
		}
	}
	return nil
}

// fits says whether a document that can't be cut has room in a shard.
func (p *preparation) fits(name string, text []byte) bool {
	if p.format.cut {
		return true
	}
	p.packed.Reset()
	p.format.pack(&p.packed, name, text)
	return int64(p.packed.Len()) <= p.recipe.ShardBytes
}

func (p *preparation) counts() v1.Counts {
	c := v1.Counts{In: int64(len(p.paths)), Dropped: map[string]int64{}}
	for _, drop := range p.drops {
		if drop == "" {
			c.Out++
		} else {
			c.Dropped[drop]++
		}
	}
	return c
}

// pack reads the documents that stay again, and writes each to its split.
func (p *preparation) pack(ctx context.Context, out *os.Root) (splits map[string]v1.SplitFiles, size int64, err error) {
	writers := make(map[string]*shards, len(p.recipe.Split))
	for split := range p.recipe.Split {
		writers[split] = &shards{
			out: out, split: split, extension: p.format.extension, limit: p.recipe.ShardBytes &^ 1, // whole tokens
			done: v1.SplitFiles{Shards: []v1.File{}},
		}
	}
	defer func() {
		for _, w := range writers {
			err = errors.Join(err, w.abandon())
		}
	}()
	p.told = Progress{Step: p.told.Step, Pass: 2}
	for i, name := range p.paths {
		if ctx.Err() != nil {
			return nil, 0, canceled(ctx)
		}
		if p.drops[i] != "" {
			continue
		}
		text, drop := p.reader.read(name)
		if drop != "" || sha256.Sum256(text) != p.digests[i] {
			return nil, 0, &penstock.Error{
				Code: penstock.Unavailable, Where: name, Msg: "the file changed while the dataset was prepared",
				Hint: "prepare it again when nobody writes into the source's folder",
			}
		}
		p.packed.Reset()
		p.format.pack(&p.packed, name, text)
		w := writers[splitOf(p.recipe, p.digests[i])]
		if err := w.add(p.packed.Bytes()); err != nil {
			return nil, 0, err
		}
		w.done.Documents++
		w.done.Tokens += p.format.tokens(len(text))
		p.tell(len(text))
	}
	splits = make(map[string]v1.SplitFiles, len(writers))
	for split, w := range writers {
		if err := w.finish(); err != nil {
			return nil, 0, err
		}
		splits[split] = w.done
	}
	p.progress(p.told)
	return splits, p.told.Bytes, nil
}

func (p *preparation) tell(size int) {
	p.told.Step++
	p.told.Documents++
	p.told.Bytes += int64(size)
	if p.told.Documents%progressEvery == 0 {
		p.progress(p.told)
	}
}

// splitOf chooses a document's split by the hash of the seed and its content.
// The splits share the hash's range in the order of their names.
func splitOf(recipe v1.Prepare, content [sha256.Size]byte) string {
	keyed := binary.LittleEndian.AppendUint64(nil, uint64(recipe.Seed))
	sum := sha256.Sum256(append(keyed, content[:]...))
	percent, _ := bits.Mul64(binary.LittleEndian.Uint64(sum[:]), 100)
	names := sortedKeys(recipe.Split)
	for _, name := range names {
		share := uint64(recipe.Split[name])
		if percent < share {
			return name
		}
		percent -= share
	}
	return names[len(names)-1] // not reached: the shares sum to 100
}
