// Package secret keeps what nobody may read: it seals the values of Secrets
// before they reach the store, and wraps texts so that nothing prints them.
// Values are sealed with age (age-encryption.org/v1, X25519); the identity that
// opens them is a file in the data folder, and so no part of a database dump.
package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/penstock/penstock"
)

// KeyFile is the name of the identity file in the data folder: one age identity
// a line, newest first.
const KeyFile = "secret.key"

// The bounds of what is sealed and of the identity file, in bytes.
const (
	maxSealed  = 4 << 20
	maxKeyFile = 64 << 10
)

// Box seals and opens with the identities of one data folder. Its methods may
// be called from many goroutines.
type Box struct {
	dir string

	mu   sync.RWMutex
	keys []*age.X25519Identity // newest first, never empty
}

// Load reads the identities in the data folder dir, and makes the first one if
// there is none. A file that others than its owner can read is refused.
func Load(dir string) (*Box, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	defer func() { _ = root.Close() }() // it was only read through
	keys, err := readKeys(root)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(root); err != nil {
			return nil, err
		}
		keys, err = readKeys(root)
	}
	if err != nil {
		return nil, err
	}
	return &Box{dir: dir, keys: keys}, nil
}

// Seal encrypts values to the newest identity. Names and values must be UTF-8;
// what isn't text has to be written as text, for instance in base64.
func (b *Box) Seal(values map[string]string) ([]byte, error) {
	for name, value := range values {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("the value of %.40q isn't UTF-8 text", name), Hint: "encode it as base64"}
		}
	}
	plain, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("encode secret values: %w", err)
	}
	if len(plain) > maxSealed {
		return nil, &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("the values have %d bytes together; at most %d are allowed", len(plain), maxSealed)}
	}
	b.mu.RLock()
	newest := b.keys[0]
	b.mu.RUnlock()
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, newest.Recipient())
	if err != nil {
		return nil, fmt.Errorf("seal secret values: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("seal secret values: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal secret values: %w", err)
	}
	return sealed.Bytes(), nil
}

// Open decrypts what Seal made with any identity of this box. Bytes that none of
// them opens, and bytes that were changed, are Corrupt.
func (b *Box) Open(sealed []byte) (map[string]string, error) {
	b.mu.RLock()
	identities := make([]age.Identity, len(b.keys))
	for i, k := range b.keys {
		identities[i] = k
	}
	b.mu.RUnlock()
	r, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, &penstock.Error{
			Code: penstock.Corrupt, Msg: fmt.Sprintf("the secret was sealed with another key than the %d in %s", len(identities), KeyFile), Err: err,
			Hint: "put the " + KeyFile + " of the data folder that it was sealed with back, or set the secret again",
		}
	case err != nil:
		return nil, unsealed(err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxSealed+1))
	if err != nil {
		return nil, unsealed(err)
	}
	var values map[string]string
	if err := json.Unmarshal(plain, &values); err != nil {
		return nil, unsealed(errors.New("the content isn't what Seal writes")) // the JSON error may quote the content
	}
	return values, nil
}

func unsealed(err error) error {
	return &penstock.Error{Code: penstock.Corrupt, Msg: "the sealed secret is damaged", Hint: "set the secret again", Err: err}
}

// Rotate makes a new identity, which Seal uses from now on. The old ones stay in
// the file and open what they sealed, so that everything can be opened and
// sealed again in peace.
func (b *Box) Rotate() error {
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return fmt.Errorf("open data folder: %w", err)
	}
	defer func() { _ = root.Close() }() // write syncs what matters
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, err := readKeys(root) // another process may have rotated too
	if err != nil {
		return err
	}
	keys := append([]*age.X25519Identity{key}, old...)
	if err := write(root, keys, root.Rename); err != nil {
		return err
	}
	b.keys = keys
	return nil
}

// readKeys reads the identity file. Its errors never quote its content.
func readKeys(root *os.Root) ([]*age.X25519Identity, error) {
	f, err := root.Open(KeyFile)
	if err != nil {
		return nil, fmt.Errorf("open identity file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at identity file: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 && !lent(info) {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Where: KeyFile, Msg: fmt.Sprintf("its mode is %s; others than its owner could read the key to all secrets", mode),
			Hint: "chmod 600 it, and rotate the key if somebody may have read it",
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read identity file: %w", err)
	}
	var keys []*age.X25519Identity
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		key, err := age.ParseX25519Identity(strings.TrimSpace(line))
		if err != nil {
			return nil, &penstock.Error{
				Code: penstock.Corrupt, Where: fmt.Sprintf("%s:%d", KeyFile, i+1), Msg: "the line isn't an age identity",
				Hint: "put the file back from a backup; without it no secret can be opened",
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// lent reports whether somebody else owns the file and lets this process read it
// by its group alone, as Kubernetes does with the files of a Secret.
func lent(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) != os.Getuid() && info.Mode().Perm()&0o077 == 0o040
}

// Hand puts the identities of one folder into another that has none, so that
// what was sealed here can be opened there. One that has others is a Conflict.
func Hand(from, to string) error {
	source, err := os.OpenRoot(from)
	if err != nil {
		return fmt.Errorf("open folder of the key: %w", err)
	}
	defer func() { _ = source.Close() }() // it was only read through
	target, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("open folder for the key: %w", err)
	}
	defer func() { _ = target.Close() }() // write syncs what matters
	keys, err := readKeys(source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever sealed
	}
	if err != nil {
		return err
	}
	have, err := readKeys(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return write(target, keys, target.Link)
	case err != nil:
		return err
	case slices.EqualFunc(have, keys, func(a, b *age.X25519Identity) bool { return a.String() == b.String() }):
		return nil
	}
	return &penstock.Error{
		Code: penstock.Conflict, Where: filepath.Join(to, KeyFile), Msg: "another key is there: what was sealed with the first can't be opened with it",
		Hint: "name a folder without " + KeyFile,
	}
}

// create makes the first identity. If another process is doing the same, one of
// the two files wins whole and both use it.
func create(root *os.Root) error {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	err = write(root, []*age.X25519Identity{key}, root.Link)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// write puts keys into a temporary file, syncs it, moves it into place with
// publish, and syncs the folder: after a crash there is the old file or the new.
func write(root *os.Root, keys []*age.X25519Identity, publish func(from, to string) error) (err error) {
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(k.String() + "\n")
	}
	// The name is the public half of the newest key: unique, and no secret.
	temporary := KeyFile + "." + keys[0].Recipient().String()
	defer func() {
		if gone := root.Remove(temporary); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	f, err := root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create identity file: %w", err)
	}
	_, err = f.WriteString(text.String())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write identity file: %w", err)
	}
	if err := publish(temporary, KeyFile); err != nil {
		return fmt.Errorf("put identity file in place: %w", err)
	}
	folder, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("open data folder: %w", err)
	}
	return errors.Join(folder.Sync(), folder.Close())
}
