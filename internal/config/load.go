package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strconv"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"

	"github.com/penstock/penstock"
)

// Load reads the settings from a YAML file (none where path is "") and from
// environment variables in the form of os.Environ, and checks them. Errors are
// *penstock.Error with the place: file:line, or the variable.
func Load(path string, environ []string) (Config, error) {
	k, places := koanf.New("."), map[string]string{}
	if path != "" {
		data, err := readFile(path)
		if err != nil {
			return Config{}, err
		}
		if err := scanFile(path, data, places); err != nil {
			return Config{}, err
		}
		if err := k.Load(rawbytes.Provider(data), yamlParser{}); err != nil {
			return Config{}, yamlError(path, err)
		}
	}
	known, err := scanEnviron(environ, places)
	if err != nil {
		return Config{}, err
	}
	variables := env.Provider(".", env.Opt{
		Prefix: prefix, EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) { return known[name], value },
	})
	if err := k.Load(variables, nil); err != nil {
		return Config{}, &penstock.Error{Code: penstock.Invalid, Msg: "the environment can't be read", Err: err}
	}
	return decode(k, places)
}

// maxFile bounds the settings file; real ones have some hundred bytes.
const maxFile = 1 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		code, msg := penstock.Invalid, "the settings file can't be read"
		if errors.Is(err, fs.ErrNotExist) {
			code, msg = penstock.NotFound, "there is no such settings file"
		}
		return nil, &penstock.Error{Code: code, Where: path, Msg: msg, Hint: "give the path of a YAML file, or none for the defaults", Err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Where: path, Msg: "the settings file can't be read", Err: err}
	}
	if len(data) > maxFile {
		return nil, &penstock.Error{Code: penstock.TooLarge, Where: path, Msg: fmt.Sprintf("the settings file has more than %d bytes", maxFile)}
	}
	return data, nil
}

// decode lays what was read over the defaults. places says where each key was
// given.
func decode(k *koanf.Koanf, places map[string]string) (Config, error) {
	c := Default()
	err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		ErrorUnused: true, DecodeHook: mapstructure.DecodeHookFuncType(fromText), Result: &c,
	}})
	if err != nil {
		return Config{}, valueError(err, places)
	}
	if f := c.fault(); f != nil {
		return Config{}, f.at(places)
	}
	return c, nil
}

// fromText lets the types that read text read it, also where YAML took it for
// a number, and reads the truth values and numbers of the environment.
func fromText(from, to reflect.Type, data any) (any, error) {
	target := reflect.New(to)
	if reader, ok := target.Interface().(encoding.TextUnmarshaler); ok {
		text, ok := textOf(data)
		if !ok {
			return data, nil
		}
		if err := reader.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		return target.Elem().Interface(), nil
	}
	if f, isFloat := data.(float64); isFloat && to.Kind() == reflect.Int {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%v is not a whole number", f)}
	}
	text, ok := data.(string)
	switch {
	case !ok:
		return data, nil
	case to.Kind() == reflect.Bool && (text == "true" || text == "false"):
		return text == "true", nil
	case to.Kind() == reflect.Int:
		if n, err := strconv.Atoi(text); err == nil {
			return n, nil
		}
	}
	return data, nil
}

// textOf writes a scalar as a person would have written it. A decimal that YAML
// read as a float comes back as the shortest one that is read as that float,
// which is what was written up to 15 digits.
func textOf(data any) (string, bool) {
	switch v := data.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case int, int64, uint64:
		return fmt.Sprint(v), true
	}
	return "", false
}

// valueError tells which setting has a value that can't be read, and where.
func valueError(err error, places map[string]string) error {
	var d *mapstructure.DecodeError
	if !errors.As(err, &d) {
		return &penstock.Error{Code: penstock.Invalid, Msg: "the settings can't be read", Err: err}
	}
	f := fault{key: keyOf(d.Name()), msg: "the value can't be read", hint: "see docs/config.md for what it should be"}
	var own *penstock.Error
	var unfit *mapstructure.UnconvertibleTypeError
	switch {
	case errors.As(d.Unwrap(), &own):
		f.msg, f.hint = own.Msg, own.Hint
	case errors.As(d.Unwrap(), &unfit):
		f.msg = fmt.Sprintf("%.40q is not %s", fmt.Sprint(unfit.Value), expected(unfit.Expected.Kind()))
	}
	return f.at(places)
}

func expected(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Map, reflect.Struct:
		return "a section with settings below it"
	}
	return "text"
}
