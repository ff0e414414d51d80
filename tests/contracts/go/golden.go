// Reads every golden message with the generated types; prints the names of those that held.
//
//	go run . <folder of golden files>
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "tidegate.invalid/contracts/generated/xy/flags/v1"
	mdv1 "tidegate.invalid/contracts/generated/xy/md/v1"
	_ "tidegate.invalid/contracts/generated/xy/session/v1"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("the folder of the golden files is missing")
	}
	folder := os.Args[1]
	files, err := filepath.Glob(filepath.Join(folder, "*.binpb"))
	check(err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".binpb")
		if err := read(folder, name); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		fmt.Println(name)
	}
	check(typed(folder))
}

// read compares one golden message with its JSON form.
func read(folder, name string) error {
	contract := strings.TrimSuffix(name, ".newer")
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(contract))
	if err != nil {
		return err
	}
	stored, err := os.ReadFile(filepath.Join(folder, name+".binpb"))
	if err != nil {
		return err
	}
	message := kind.New().Interface()
	if err := proto.Unmarshal(stored, message); err != nil {
		return err
	}
	written, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	// Fields that a newer contract added are kept and compared with the others.
	again := kind.New().Interface()
	if err := proto.Unmarshal(written, again); err != nil {
		return err
	}
	if !proto.Equal(again, message) {
		return fmt.Errorf("read %v, then %v", message, again)
	}
	if name != contract && len(message.ProtoReflect().GetUnknown()) == 0 {
		return errors.New("fields of a newer contract were lost")
	}
	shown, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	expected, err := os.ReadFile(filepath.Join(folder, contract+".json"))
	if err != nil {
		return err
	}
	var found, wanted any
	if err := json.Unmarshal(shown, &found); err != nil {
		return err
	}
	if err := json.Unmarshal(expected, &wanted); err != nil {
		return err
	}
	if !reflect.DeepEqual(found, wanted) {
		return fmt.Errorf("read %v, expected %v", found, wanted)
	}
	return nil
}

// typed uses the generated fields; it only compiles while they stay what they are.
func typed(folder string) error {
	stored, err := os.ReadFile(filepath.Join(folder, "xy.md.v1.TickBatch.binpb"))
	if err != nil {
		return err
	}
	var batch mdv1.TickBatch
	if err := proto.Unmarshal(stored, &batch); err != nil {
		return err
	}
	first := batch.GetTicks()[0]
	if batch.GetSeq() != 9_007_199_254_740_993 || first.GetSymbol() != "S000" || first.GetPrice() != 101.25 {
		return fmt.Errorf("xy.md.v1.TickBatch: read %v", &batch)
	}
	return nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
