package broadcast

// Goldens of the layouts of docs/protocol.md sections 6 and 7, computed from the
// specification by another implementation in another language.
const (
	goldenHeader       = "12a463e8ba08ec556c93e3b3e5dc7f84a851f6471036c5996afa7308e139e148b89548b5e87a89e83a13ac1ca147612d09444fb5d0817afde08bafefbc475b0c1c158dcbf10da06f8105"
	goldenCommitment   = "1cd8c9342fd0d18cb3bd141621ba16e786b52e035c6ea2148717f8f55c680413"
	goldenEnvelope     = "708608ea615db7dd183c888872a8be5eb9a1180fd86c6515c412011f80f22833"
	goldenDigest       = "37b5501f3e4ec1bcea94527b26803477466afb24b7969de6e244eab3e45594bd"
	goldenMask         = "645feb13fe59baded347bb9c69c3218a6279234f8b7ecc22786f7bf46188c7e183af9c2467c315d0"
	goldenHint         = "c31847e966a072f3"
	goldenSealedDigest = "16f31660d39146a5fb770c4becd11ee3136db390affbab7163dbf5d6a69baa64e7fe07823fdf1e6514f00eb83daf8f98"
	goldenFanout       = "b17e33fbb54b202f5497757ed72f0c3a77e1a444967ae21e48dbccef84e38016"
	goldenName         = "95e0a5d6702be27c249ab1bd26320f94989790984b227ae80bcdc948a968e081"
	goldenSealed       = "82a3449b02e9fbf738315373062245cf2893cf14fd7b3d4c49ca9f7fbf4b9e85c11968f5c8f96c6f53443892d5aab90244a9d52f"
)
