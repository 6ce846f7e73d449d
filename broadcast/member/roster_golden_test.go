package member_test

// goldenOperations is SHA-256 of each example of TestOperation.
var goldenOperations = map[string]string{
	"invite": "3ca4061fd6d8d17377c95c1c2ef522587879d7a1ac17240a7bcc496c55ab0346",
	"add":    "274857cca8d80407e4404967c9f15ba750c210ab004739a17fb8227bd3485d90",
	"adopt":  "d8322884acc146f13aefa9a53dfb23763c04eba35dfcec89be1b082e4a38c6e0",
	"remove": "c8c58ca9cf204cc26e18bb2a9c3ef4299320f28c50535159cb7b5144325b4d88",
	"role":   "6595af124ac1c4ff54d1c05bd7a41d9c7e16142625920156374c12fb10833bc9",
	"relays": "9faccfb41d85f7a159a58083c3c80f07d63c27626f3ac525b35c7b29ae87d7f1",
	"policy": "627aa00ebaaa09ba69b05748f989f78b5710d3c5b600409c32bfcc9a6afdae6f",
	"epoch":  "7f47fe7fc3a84acd21e8c4b3f40b913f534ea43405dba7659ef5dc39f3c53824",
	"leave":  "a69b985f79281936e3a6a78a1c471336b54c3042af9ed5fee925412311fe6249",
	"spares": "f543f571aad97deebb447480bec98c1040456424cf02bae8e920d85f92086af9",
	"revoke": "10ed4f1ae8ea0ddb6d9fc95162f3eef91a29d5d373cd5a0d60f91f878f4c07d9",
}
