package kms

import "whatisup/local/aws/internal/wire"

func str() *wire.Shape { return &wire.Shape{Type: wire.TString} }

func blob() *wire.Shape { return &wire.Shape{Type: wire.TBlob} }

func required(s *wire.Shape) *wire.Shape { s.Required = true; return s }

func enum(values ...string) *wire.Shape { return &wire.Shape{Type: wire.TString, Enum: values} }

func size(s *wire.Shape, min, max int) *wire.Shape {
	s.HasMin, s.Min, s.Max = true, min, max
	return s
}

func input(members ...wire.Member) *wire.Shape {
	return &wire.Shape{Type: wire.TStruct, Members: members}
}

var (
	keyID      = wire.Member{Name: "KeyId", Shape: required(size(str(), 1, 2048))}
	algorithm  = wire.Member{Name: "EncryptionAlgorithm", Shape: enum("SYMMETRIC_DEFAULT")}
	context    = wire.Member{Name: "EncryptionContext", Shape: &wire.Shape{Type: wire.TMap, Class: "java.lang.String", Elem: str()}}
	ciphertext = wire.Member{Name: "CiphertextBlob", Shape: required(size(blob(), 1, 6144))}
	dataKey    = input(keyID, context,
		wire.Member{Name: "NumberOfBytes", Shape: size(&wire.Shape{Type: wire.TInteger}, 1, 1024)},
		wire.Member{Name: "KeySpec", Shape: enum("AES_256", "AES_128")},
	)
	createKeyShape = input(
		wire.Member{Name: "Description", Shape: size(str(), 0, 8192)},
		wire.Member{Name: "KeyUsage", Shape: enum("ENCRYPT_DECRYPT")},
		wire.Member{Name: "KeySpec", Shape: enum("SYMMETRIC_DEFAULT")},
		wire.Member{Name: "CustomerMasterKeySpec", Shape: enum("SYMMETRIC_DEFAULT")},
		wire.Member{Name: "Origin", Shape: enum("AWS_KMS")},
		wire.Member{Name: "MultiRegion", Shape: &wire.Shape{Type: wire.TBoolean}},
		wire.Member{Name: "Policy", Shape: str()},
		wire.Member{Name: "BypassPolicyLockoutSafetyCheck", Shape: &wire.Shape{Type: wire.TBoolean}},
		wire.Member{Name: "Tags", Shape: &wire.Shape{Type: wire.TList, Elem: &wire.Shape{Type: wire.TStruct, Value: true, Class: "Tag", Members: []wire.Member{
			{Name: "TagKey", Shape: str()}, {Name: "TagValue", Shape: str()},
		}}}},
	)
	createAliasShape = input(
		wire.Member{Name: "AliasName", Shape: required(size(str(), 1, 256))},
		wire.Member{Name: "TargetKeyId", Shape: required(size(str(), 1, 2048))},
	)
	keyShape     = input(keyID)
	encryptShape = input(keyID, context, algorithm, wire.Member{Name: "Plaintext", Shape: required(size(blob(), 1, 4096))})
	decryptShape = input(ciphertext, context, algorithm, wire.Member{Name: "KeyId", Shape: size(str(), 1, 2048)})
	reEncrypt    = input(ciphertext,
		wire.Member{Name: "SourceEncryptionContext", Shape: context.Shape},
		wire.Member{Name: "SourceKeyId", Shape: size(str(), 1, 2048)},
		wire.Member{Name: "DestinationKeyId", Shape: required(size(str(), 1, 2048))},
		wire.Member{Name: "DestinationEncryptionContext", Shape: context.Shape},
		wire.Member{Name: "SourceEncryptionAlgorithm", Shape: algorithm.Shape},
		wire.Member{Name: "DestinationEncryptionAlgorithm", Shape: algorithm.Shape},
	)
)
